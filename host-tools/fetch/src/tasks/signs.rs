//! Road signs as SVG files named `<class>--<sign>--g<variant>.svg`.

use super::{Collected, is_kind, owned, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 4] = ["complementary", "information", "regulatory", "warning"];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    let wanted = |name: &str| name.contains("/package_signs/") && is_kind(name, "svg");
    archive::visit(&sources[0], &wanted, &mut |name, bytes| {
        let Some((class, group)) = parse(stem(name)) else {
            return Ok(());
        };
        match Image::render_svg(&bytes, name, 96) {
            Ok(image) => {
                collected.samples.push(Sample {
                    name: stem(name).to_owned(),
                    class,
                    group,
                    held_out: false,
                    image,
                });
            }
            Err(error) => collected.unreadable.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok(collected)
}

/// Returns the class and the sign's name without variant, numbers and side. `maximum-speed-limit-50` and `-60` are the
/// same sign.
fn parse(stem: &str) -> Option<(usize, String)> {
    let mut parts = stem.split("--");
    let class = parts
        .next()
        .and_then(|class| LABELS.iter().position(|&label| label == class))?;
    let sign: Vec<&str> = parts
        .next()?
        .split('-')
        .filter(|word| !matches!(*word, "left" | "right") && !word.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    Some((class, sign.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_numbers_and_sides_of_a_sign_are_one_group() {
        let group = |name| parse(name).unwrap();
        assert_eq!(
            group("regulatory--maximum-speed-limit-50--g1"),
            group("regulatory--maximum-speed-limit-60--g3")
        );
        assert_eq!(group("warning--curve-left--g1"), group("warning--curve-right--g2"));
        assert_ne!(group("warning--curve-left--g1").1, group("warning--tunnel--g6").1);
        assert_eq!(parse("logo--x--g1"), None);
    }
}
