//! Writes the seeds of a target into a folder: `seeds TARGET DIR`.
#![forbid(unsafe_code)]

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, target, dir] = arguments.as_slice() else { panic!("usage: seeds TARGET DIR") };
    for (i, bytes) in fuzz::seeds(target).iter().enumerate() {
        std::fs::write(std::path::Path::new(dir).join(format!("seed-{i}")), bytes)?;
    }
    Ok(())
}
