//! Where commands write. The standard macros panic when a reader has gone (`gatepass schema | head -1`) or a
//! disk is full; these remember what went wrong, and `main` tells it.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::Mutex;

static WRONG: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// To stdout. After the first failure nothing more is tried.
pub fn write(text: Arguments<'_>, end: &str) {
    bytes(format!("{text}{end}").as_bytes());
}

/// [`write()`], for what is made as bytes.
pub fn bytes(bytes: &[u8]) {
    let mut wrong = WRONG.lock().unwrap_or_else(|e| e.into_inner());
    if wrong.is_none()
        && let Err(cause) = std::io::stdout().lock().write_all(bytes)
    {
        *wrong = Some(cause);
    }
}

/// To stderr, where there is nobody left to tell of a failure.
pub fn tell(text: Arguments<'_>, end: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}{end}").as_bytes());
}

/// What kept the output from being written whole; a reader that had enough is no failure.
pub fn failure() -> Option<std::io::Error> {
    let flushed = std::io::stdout().lock().flush();
    let earlier = WRONG.lock().unwrap_or_else(|e| e.into_inner()).take();
    earlier.or(flushed.err()).filter(|cause| cause.kind() != ErrorKind::BrokenPipe)
}
