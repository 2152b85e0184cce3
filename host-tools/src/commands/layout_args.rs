//! Options for the layout of a data set.

use std::path::PathBuf;

use clap::Args;
use clr_training::{LayoutOptions, Split, SplitOptions};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LayoutArgs {
    /// Folders that are splits, such as train=Training,test=Testing
    #[arg(long, value_name = "SPLIT=FOLDER", value_delimiter = ',', value_parser = parse)]
    splits: Vec<(Split, PathBuf)>,
    /// Treat every folder as a class, whatever its name
    #[arg(long, conflicts_with = "splits")]
    no_splits: bool,
}

impl LayoutArgs {
    pub(crate) fn options(&self) -> LayoutOptions {
        LayoutOptions::default()
            .with_splits(self.splits.clone())
            .with_no_splits(self.no_splits)
    }

    /// Returns the options for dividing the training images of a data set with this layout.
    pub(crate) fn split(&self, validation_fraction: f32, seed: u64) -> SplitOptions {
        SplitOptions::default()
            .with_validation_fraction(validation_fraction)
            .with_seed(seed)
            .with_layout(self.options())
    }
}

fn parse(text: &str) -> Result<(Split, PathBuf), String> {
    let (name, folder) = text
        .split_once('=')
        .ok_or("expected SPLIT=FOLDER, such as train=Training")?;
    let split =
        Split::from_name(name).ok_or_else(|| format!("'{name}' is no split: expected train, validation or test"))?;
    if folder.is_empty() {
        return Err("expected a folder after the equals sign".to_owned());
    }
    Ok((split, PathBuf::from(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_by_usual_words_and_others_are_refused() {
        assert_eq!(parse("train=My Training"), Ok((Split::Train, "My Training".into())));
        assert_eq!(parse("val=a/b"), Ok((Split::Validation, "a/b".into())));
        assert!(parse("cats=cats").is_err() && parse("train").is_err() && parse("test=").is_err());
    }
}
