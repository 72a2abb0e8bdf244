//! What stands in for the script engine in a build without the feature `pac`: the configuration is refused before it is asked.

use super::{Bounds, Names, Script};

const ABSENT: &str = "PAC scripts are not in this build";

/// # Errors
/// Always.
pub fn check(_: &Script, _: Bounds) -> Result<(), String> {
    Err(ABSENT.to_owned())
}

/// # Errors
/// Always.
pub fn run(_: &Script, _: &str, _: &str, _: Names, _: Bounds) -> Result<Option<String>, String> {
    Err(ABSENT.to_owned())
}
