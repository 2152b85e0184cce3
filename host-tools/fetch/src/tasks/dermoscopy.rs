//! Skin lesions: pairs of 32×32 patches, `Similar/patch<N>{a,b}.bmp` and `nonSimilar/…`. `N // 10` is the lesion.

use std::collections::BTreeMap;

use image::RgbImage;

use super::{Collected, is_kind, owned, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 2] = ["different", "alike"];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut patches: BTreeMap<(usize, u32), [Option<RgbImage>; 2]> = BTreeMap::new();
    let mut unreadable = Vec::new();
    let wanted = |name: &str| name.contains("/patchesDataSet/") && is_kind(name, "bmp");
    archive::visit(&sources[0], &wanted, &mut |name, bytes| {
        let Some((number, side)) = parse(stem(name)) else {
            return Ok(());
        };
        let class = usize::from(name.contains("/Similar/"));
        match image::load_from_memory(&bytes) {
            Ok(image) => patches.entry((class, number)).or_default()[side] = Some(image.to_rgb8()),
            Err(error) => unreadable.push(format!("{name}: {error}")),
        }
        Ok(())
    })?;
    let mut collected = Collected {
        labels: owned(&LABELS),
        samples: Vec::new(),
        unreadable,
    };
    for ((class, number), pair) in patches {
        let name = format!("patch{number:04}-{}", LABELS[class]);
        let [Some(a), Some(b)] = pair else {
            collected
                .unreadable
                .push(format!("{name}: one patch of the pair is missing"));
            continue;
        };
        let image = Image::from_image(chequerboard(&a, &b).into(), &name, None)?;
        let group = format!("lesion{}", number / 10);
        collected.samples.push(Sample {
            name,
            class,
            group,
            held_out: false,
            image,
        });
    }
    Ok(collected)
}

/// Returns the number of the pair, and the side as 0 or 1: (12, 0) for `patch12a`.
fn parse(stem: &str) -> Option<(u32, usize)> {
    let rest = stem.strip_prefix("patch")?;
    let (number, side) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let side = match side {
        "a" => 0,
        "b" => 1,
        _ => return None,
    };
    Some((number.parse().ok()?, side))
}

/// Returns `a b` above `b a`. The aspect ratio stays the same, and every inner edge is between the two patches.
fn chequerboard(a: &RgbImage, b: &RgbImage) -> RgbImage {
    let (width, height) = (a.width().min(b.width()), a.height().min(b.height()));
    RgbImage::from_fn(2 * width, 2 * height, |x, y| {
        let first = (x < width) == (y < height);
        *(if first { a } else { b }).get_pixel(x % width, y % height)
    })
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn patches_pair_up_by_number() {
        assert_eq!(parse("patch12a"), Some((12, 0)));
        assert_eq!(parse("patch0b"), Some((0, 1)));
        assert_eq!(parse("patchb"), None);
        assert_eq!(parse("patch"), None);
        assert_eq!(parse("Features"), None);
    }

    #[test]
    fn the_pair_alternates() {
        let (a, b) = (
            RgbImage::from_pixel(2, 2, Rgb([1; 3])),
            RgbImage::from_pixel(2, 2, Rgb([2; 3])),
        );
        let board = chequerboard(&a, &b);
        let at = |x, y| board.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(3, 0), at(0, 3), at(3, 3)], [1, 2, 2, 1]);
    }
}
