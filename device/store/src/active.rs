//! File `active`: the names of the tasks to serve after a restart.

use crate::{problem::Damage, sealed};

/// Separator of the names. A name contains no control characters.
const SEPARATOR: &str = "\n";

/// Returns the contents of the file, without its seal.
pub(crate) fn contents(tasks: &[String]) -> String {
    tasks.join(SEPARATOR)
}

/// Returns the file.
pub(crate) fn file(tasks: &[String]) -> Vec<u8> {
    sealed::seal(sealed::ACTIVE, contents(tasks).as_bytes())
}

/// Parses the file. Without a name, no task is active.
pub(crate) fn parse(file: &[u8]) -> Result<Vec<String>, Damage> {
    let names = sealed::open(sealed::ACTIVE, file)?;
    let names = std::str::from_utf8(names).map_err(|_| Damage::Form)?;
    Ok(names
        .split(SEPARATOR)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
