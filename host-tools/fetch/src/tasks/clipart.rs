//! Drawings from two collections, labelled by their top folder.

use super::{Collected, is_kind, owned, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const STAMPS: [&str; 10] = [
    "animals",
    "clothes",
    "food",
    "household",
    "people",
    "plants",
    "seasonal",
    "space",
    "town",
    "vehicles",
];

const CLIPART: [&str; 12] = [
    "animals",
    "computer",
    "education",
    "food",
    "geography",
    "office",
    "people",
    "plants",
    "recreation",
    "signs_and_symbols",
    "tools",
    "transportation",
];

/// Folders of the clip art that contain themes, flags or symbols in place of drawings of things.
const LEFT_OUT: [&str; 6] = ["icons", "buttons", "folders", "flags", "map_symbols", "aiga-symbols"];

pub(super) fn collect_stamps(sources: &[Source]) -> Result<Collected, FetchError> {
    collect(&sources[0], "usr/share/tuxpaint/stamps/", &STAMPS, &[])
}

pub(super) fn collect_clipart(sources: &[Source]) -> Result<Collected, FetchError> {
    collect(&sources[0], "usr/share/openclipart/png/", &CLIPART, &LEFT_OUT)
}

fn collect(source: &Source, root: &str, labels: &[&str], left_out: &[&str]) -> Result<Collected, FetchError> {
    let mut collected = Collected {
        labels: owned(labels),
        ..Collected::default()
    };
    let class_of = |name: &str| -> Option<usize> {
        let mut folders = name.strip_prefix(root)?.split('/');
        let top = folders.next()?;
        let class = labels.iter().position(|&label| label == top)?;
        (!folders.any(|folder| left_out.contains(&folder))).then_some(class)
    };
    let wanted = |name: &str| {
        let kind = name.rsplit('.').next().unwrap_or_default();
        (kind == "png" || kind == "svg") && class_of(name).is_some()
    };
    archive::visit(source, &wanted, &mut |name, bytes| {
        let Some(class) = class_of(name) else { return Ok(()) };
        let image = if is_kind(name, "svg") {
            Image::render_svg_trimmed(&bytes, name, 224)
        } else {
            Image::decode_trimmed(&bytes, name, 224)
        };
        match image {
            Ok(image) => collected.samples.push(Sample {
                name: stem(name).to_owned(),
                class,
                group: family(stem(name)),
                held_out: false,
                image,
            }),
            Err(error) => collected.unreadable.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok(collected)
}

/// Returns the file stem without the parts that mark a variant: digits at its end, `_bw`, and revision letters after
/// digits.
fn family(stem: &str) -> String {
    let lower = stem.to_lowercase();
    let without = |text: &str| -> String {
        let text = text.trim_end_matches("_bw").trim_end_matches("-md");
        let text = text
            .strip_suffix('r')
            .filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit()))
            .unwrap_or(text);
        text.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | ' '))
            .to_owned()
    };
    let mut family = without(&lower);
    loop {
        let next = without(&family);
        if next == family || next.is_empty() {
            break;
        }
        family = next;
    }
    if family.is_empty() { lower } else { family }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_one_drawing_are_one_family() {
        assert_eq!(family("apple_bw"), "apple");
        assert_eq!(family("Apple_02"), "apple");
        assert_eq!(family("pear_jean_01r"), "pear_jean");
        assert_eq!(family("flower10"), "flower");
        assert_eq!(family("lion_1_bw"), "lion");
        assert_eq!(family("bear"), "bear");
        assert_eq!(family("123"), "123");
    }
}
