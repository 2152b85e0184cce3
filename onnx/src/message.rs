//! Paths and lists in error messages.

/// Returns a path quoted for a shell.
pub(crate) fn quoted(path: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "/._-+=:@,".contains(character);
    if !path.is_empty() && path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', "'\\''"))
}

/// Returns the items, each on a line of its own.
pub(crate) fn lines(items: &[String]) -> String {
    items.iter().flat_map(|item| ["\n  ", item]).collect()
}
