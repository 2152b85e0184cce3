//! Compares pixels with Pillow's, by digest, and parts with the complete result.

use clr_adapters::{Digest, Filter};
use image::RgbImage;

use super::{Axis, resample};

/// Returns bytes from a linear congruential generator with black and white blocks, at which a cubic filter overshoots.
fn drawn([width, height]: [u32; 2]) -> RgbImage {
    let mut state = 1_u32;
    let pixels = (0..3 * width * height)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if index % 97 < 30 {
                255 * (index & 1) as u8
            } else {
                (state >> 24) as u8
            }
        })
        .collect();
    RgbImage::from_raw(width, height, pixels).unwrap()
}

fn whole(source: u32, target: u32, filter: Filter) -> Axis {
    Axis {
        source,
        region: [0.0, f64::from(source)],
        target: f64::from(target),
        first: 0.0,
        count: target,
        filter,
    }
}

/// Sizes of sources and results, `[width, height]`, with the digests of Pillow 13.0.0's bilinear and bicubic pixels,
/// from `tests/tools/pillow_resampling.py --golden`.
const GOLDEN: [([u32; 2], [u32; 2], &str); 7] = [
    ([97, 61], [24, 17], "0a1d6eaf7719 035c0d207096"),
    ([13, 9], [40, 31], "dba9d31b40ed a738ffa88473"),
    ([1, 1], [5, 3], "05737cad858f 05737cad858f"),
    ([3, 400], [8, 60], "2dcda0a4d409 d698e7005434"),
    ([300, 2], [7, 33], "44b074affb02 3707cec8672d"),
    ([2, 640], [3, 50], "be923341cc78 cd341649dfaa"),
    ([41, 300], [19, 23], "a921ab1507c4 be1f9a56172f"),
];

#[test]
fn pixels_equal_pillows() {
    for (source, target, digests) in GOLDEN {
        let image = drawn(source);
        let found = [Filter::Bilinear, Filter::Bicubic].map(|filter| {
            let axis = |axis: usize| whole(source[axis], target[axis], filter);
            Digest::of(resample(&image, &axis(0), &axis(1)).as_raw()).short()
        });
        assert_eq!(found.join(" "), digests, "{source:?} to {target:?}");
    }
}

#[test]
fn a_part_equals_the_same_part_of_the_complete_result() {
    // The cases include vertical passes that come first, and tiles with only some of the columns.
    for (source, target) in [
        ([700, 90], [61, 40]),
        ([40, 500], [30, 45]),
        ([1, 300], [9, 20]),
        ([2000, 3], [2, 9]),
    ] {
        let image = drawn(source);
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let axis = |axis: usize| whole(source[axis], target[axis], filter);
            let expected = resample(&image, &axis(0), &axis(1));
            let [first, count] = [target.map(|side| side / 3), target.map(|side| side.div_ceil(2))];
            let part = |index: usize| Axis {
                first: f64::from(first[index]),
                count: count[index],
                ..axis(index)
            };
            let cut = image::imageops::crop_imm(&expected, first[0], first[1], count[0], count[1]).to_image();
            assert!(
                resample(&image, &part(0), &part(1)) == cut,
                "{source:?} to {target:?}, {filter:?}"
            );
        }
    }
}

/// Compares with the portable code, which `pulp` runs if there is no wider instruction set.
#[test]
fn the_instruction_set_does_not_change_a_pixel() {
    for (source, target) in [([401, 297], [97, 61]), ([33, 57], [224, 224]), ([64, 900], [50, 20])] {
        let image = drawn(source);
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let [columns, rows] = [0, 1].map(|axis| whole(source[axis], target[axis], filter));
            let portable = super::Resample {
                image: &image,
                columns: &columns,
                rows: &rows,
            };
            let portable = pulp::WithSimd::with_simd(portable, pulp::Scalar::new());
            assert!(
                resample(&image, &columns, &rows).into_raw() == portable,
                "{source:?} to {target:?}"
            );
        }
    }
}
