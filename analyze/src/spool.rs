use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where values go that do not stay in memory: temporary files without names, gone with the process. One for each
/// thread, because writers of one file wait for each other.
pub(crate) struct Spool(Vec<Volume>);

struct Volume {
    file: io::Result<File>,
    end: AtomicU64,
}

/// Values of one block of a [`Spool`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    volume: usize,
    offset: u64,
    len: usize,
}

impl Spool {
    pub fn create() -> Spool {
        Spool((0..rayon::current_num_threads()).map(|_| Volume { file: tempfile::tempfile(), end: AtomicU64::new(0) }).collect())
    }

    /// Writes values; fails where there is no space for temporary files.
    pub fn write<T: bytemuck::NoUninit>(&self, values: &[T]) -> io::Result<Block> {
        let volume = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let offset = self.0[volume].end.fetch_add(bytes.len() as u64, Relaxed);
        self.0[volume].file()?.write_all_at(bytes, offset)?;
        Ok(Block { volume, offset, len: values.len() })
    }

    /// Reads them back.
    pub fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(&self, block: &Block) -> io::Result<Vec<T>> {
        let mut values = vec![T::zeroed(); block.len];
        self.0[block.volume].file()?.read_exact_at(bytemuck::cast_slice_mut(&mut values), block.offset)?;
        Ok(values)
    }
}

impl Volume {
    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))
    }
}

#[cfg(test)]
impl Spool {
    /// One that has no space.
    pub fn broken() -> Spool {
        Spool(vec![Volume { file: Err(io::ErrorKind::StorageFull.into()), end: AtomicU64::new(0) }])
    }
}
