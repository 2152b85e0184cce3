//! The same emoji in three designs, labelled by design.

use super::{Collected, is_kind, owned, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 3] = ["google", "twitter", "fluent"];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    for (class, source) in sources.iter().enumerate() {
        let wanted = |name: &str| {
            name.contains("/64/") && is_kind(name, "png") || name.contains("/assets/") && is_kind(name, "webp")
        };
        archive::visit(source, &wanted, &mut |name, bytes| {
            match Image::decode(&bytes, name, Some(64)) {
                Ok(image) => collected.samples.push(Sample {
                    name: stem(name).to_owned(),
                    class,
                    group: base(stem(name)),
                    held_out: false,
                    image,
                }),
                Err(error) => collected.unreadable.push(error.to_string()),
            }
            Ok(())
        })?;
    }
    Ok(collected)
}

/// Code points of variants: skin tones, genders, joiner, variation selector.
const LEFT_OUT: [&str; 9] = [
    "1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "2640", "2642", "200d", "fe0f",
];

/// Returns the code points without those that mark variants.
fn base(stem: &str) -> String {
    let lower = stem.to_lowercase();
    let rest: Vec<&str> = lower
        .split('-')
        .filter(|code| !LEFT_OUT.contains(code))
        // Man, woman and person are variants of the same emoji.
        .map(|code| {
            if matches!(code, "1f468" | "1f469") {
                "1f9d1"
            } else {
                code
            }
        })
        .collect();
    if rest.is_empty() { lower } else { rest.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skin_tones_and_genders_of_an_emoji_are_one_group() {
        assert_eq!(base("1f3c3-1f3fb-200d-2640-fe0f"), base("1f3c3"));
        assert_eq!(base("1F468-200D-1F33E"), base("1f469-1f3ff-200d-1f33e"));
        assert_ne!(base("1f600"), base("1f601"));
        assert_eq!(base("1f3fb"), "1f3fb");
    }
}
