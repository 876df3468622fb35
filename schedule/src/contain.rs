use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder of others over bytes that anybody may have written. Some panic where bytes contradict themselves (found
/// by fuzzing arrow-rs 60); a damaged file is an error, and says so in a sentence instead of on a panic's way out.
///
/// # Errors
/// What the panic said.
///
/// ```
/// assert_eq!(schedule::contain(|| 1 + 1), Ok(2));
/// assert!(schedule::contain(|| Vec::<u8>::new()[0]).unwrap_err().contains("index out of bounds"));
/// ```
pub fn contain<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                loud(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(decode));
    CONTAINED.set(outer);
    done.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        said.unwrap_or("its decoder gave up").to_owned()
    })
}
