//! The commands, one per file.

use std::path::PathBuf;

use clr_fetch::{Cache, FetchError};

use crate::output::Output;

pub(crate) mod background;
pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod completions;
pub(crate) mod continual;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod layout_args;
pub(crate) mod merge;
pub(crate) mod preprocessing;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod quantize;
pub(crate) mod sign;
pub(crate) mod train;
pub(crate) mod verify;

/// Context of every command.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) output: &'a Output,
    /// `--cache` or `$CLR_CACHE`.
    pub(crate) cache: Option<PathBuf>,
}

impl Context<'_> {
    pub(crate) fn cache(&self) -> Result<Cache, FetchError> {
        Cache::open(self.cache.clone())
    }
}

/// Parses `N` or `HEIGHTxWIDTH` in pixels, from 8 to 4096.
fn parse_size(text: &str) -> Result<[u32; 2], String> {
    let side = |part: &str| {
        part.trim()
            .parse::<u32>()
            .ok()
            .filter(|side| (8..=4_096).contains(side))
    };
    let (height, width) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err("expected N, or HEIGHTxWIDTH (the height first), in pixels from 8 to 4096".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_number_or_two() {
        assert_eq!(parse_size("96"), Ok([96, 96]));
        assert_eq!(parse_size("96x128"), Ok([96, 128]));
        assert!(parse_size("0").is_err() && parse_size("4x").is_err() && parse_size("abc").is_err());
    }
}
