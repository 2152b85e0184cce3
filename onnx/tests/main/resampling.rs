//! The resampler behind `Preprocess::fit` gives the same bytes with and without SIMD, so adapters see the same pictures on
//! every CPU. Together with the pinned tensors of the unit tests this ties x86-64 and aarch64 to the same bits.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{CpuExtensions, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

fn extensions() -> Vec<CpuExtensions> {
    #[cfg(target_arch = "x86_64")]
    let all = [CpuExtensions::Sse4_1, CpuExtensions::Avx2];
    #[cfg(target_arch = "aarch64")]
    let all = [CpuExtensions::Neon];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all = [];
    all.into_iter().filter(CpuExtensions::is_supported).collect()
}

fn resize(pixels: &[u8], from: [u32; 2], to: [u32; 2], filter: FilterType, extension: CpuExtensions) -> Vec<u8> {
    let source = ImageRef::new(from[0], from[1], pixels, PixelType::U8x3).expect("the pixels fill the picture");
    let mut target = Image::new(to[0], to[1], PixelType::U8x3);
    let mut resizer = Resizer::new();
    // SAFETY: the extension is `None` or has just been found to be supported.
    unsafe { resizer.set_cpu_extensions(extension) };
    let (width, height) = (f64::from(from[0]), f64::from(from[1]));
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false)
        .crop(width * 0.061, height * 0.05, width * 0.875, height * 0.9);
    resizer
        .resize(&source, &mut target, &options)
        .expect("the cut lies inside");
    target.into_vec()
}

#[test]
fn resampling_does_not_depend_on_the_cpu() {
    let mut state = 1_u32;
    let pixels: Vec<u8> = (0..3 * 700 * 700)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Noise and hard edges, so that a cubic filter overshoots and the sums reach their extremes.
            if index % 977 < 300 {
                255 * (index as u8 & 1)
            } else {
                (state >> 24) as u8
            }
        })
        .collect();
    for filter in [FilterType::Bilinear, FilterType::CatmullRom] {
        for from in [[700, 400], [401, 697], [33, 57], [3, 2]] {
            for to in [[224, 224], [97, 61], [1, 1], [5, 600]] {
                let plain = resize(
                    &pixels[..3 * (from[0] * from[1]) as usize],
                    from,
                    to,
                    filter,
                    CpuExtensions::None,
                );
                for extension in extensions() {
                    let fast = resize(&pixels[..3 * (from[0] * from[1]) as usize], from, to, filter, extension);
                    assert!(plain == fast, "{filter:?}, {from:?} to {to:?}, {extension:?}");
                }
            }
        }
    }
}
