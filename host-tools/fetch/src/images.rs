//! Images of a task: alpha composed onto white, grey kept grey, size limited, encoded as PNG.

use std::io::Cursor;

use clr_adapters::Digest;
use image::{
    DynamicImage, GrayImage, ImageEncoder, ImageReader, RgbImage,
    codecs::png::{CompressionType, FilterType, PngEncoder},
    imageops,
};
use resvg::{tiny_skia, usvg};

use super::FetchError;
use clr_training::inspect::Fingerprint;

/// Maximum side of a stored image in pixels, because the backbones use 224 to 300.
const LONGEST_SIDE: u32 = 300;

/// An encoded image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) png: Vec<u8>,
    /// Digest of size, channels and pixels. It is equal for equal images in different files.
    pub(crate) pixels: Digest,
    pub(crate) fingerprint: Fingerprint,
}

impl Image {
    /// Decodes a PNG, JPEG, BMP, WebP or GIF file. `longest` is an additional limit on the longer side.
    pub(crate) fn decode(bytes: &[u8], entry: &str, longest: Option<u32>) -> Result<Self, FetchError> {
        Self::from_image(decode(bytes, entry)?, entry, longest)
    }

    /// Encodes a decoded image.
    pub(crate) fn from_image(image: DynamicImage, entry: &str, longest: Option<u32>) -> Result<Self, FetchError> {
        let longest = longest.unwrap_or(LONGEST_SIDE).min(LONGEST_SIDE);
        let mut rgb = over_white(&image);
        if rgb.width().max(rgb.height()) > longest {
            let scale = f64::from(longest) / f64::from(rgb.width().max(rgb.height()));
            let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
            rgb = imageops::resize(
                &rgb,
                side(rgb.width()),
                side(rgb.height()),
                imageops::FilterType::Lanczos3,
            );
        }
        if rgb
            .pixels()
            .all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2])
        {
            let grey = GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
                image::Luma([rgb.get_pixel(x, y).0[0]])
            });
            Self::from_grey(&grey, entry)
        } else {
            let grey = imageops::grayscale(&rgb);
            let (width, height) = rgb.dimensions();
            Self::finish(
                rgb.as_raw(),
                width,
                height,
                image::ExtendedColorType::Rgb8,
                &grey,
                entry,
            )
        }
    }

    /// Encodes a grey image without changes.
    pub(crate) fn from_grey(grey: &GrayImage, entry: &str) -> Result<Self, FetchError> {
        let (width, height) = grey.dimensions();
        Self::finish(grey.as_raw(), width, height, image::ExtendedColorType::L8, grey, entry)
    }

    /// Decodes like [`Self::decode`] and removes white margins. A blank image is an error.
    pub(crate) fn decode_trimmed(bytes: &[u8], entry: &str, longest: u32) -> Result<Self, FetchError> {
        Self::from_image(
            trim(&over_white(&decode(bytes, entry)?), entry)?.into(),
            entry,
            Some(longest),
        )
    }

    /// Renders like [`Self::render_svg`] and removes white margins. A blank image is an error.
    pub(crate) fn render_svg_trimmed(bytes: &[u8], entry: &str, side: u32) -> Result<Self, FetchError> {
        Self::from_image(trim(&draw(bytes, entry, side)?, entry)?.into(), entry, Some(side))
    }

    /// Renders an SVG on white; its longer side gets `side` pixels.
    pub(crate) fn render_svg(bytes: &[u8], entry: &str, side: u32) -> Result<Self, FetchError> {
        Self::from_image(draw(bytes, entry, side)?.into(), entry, None)
    }

    fn finish(
        raw: &[u8],
        width: u32,
        height: u32,
        colour: image::ExtendedColorType,
        grey: &GrayImage,
        entry: &str,
    ) -> Result<Self, FetchError> {
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive)
            .write_image(raw, width, height, colour)
            .map_err(|source| FetchError::Image {
                entry: entry.to_owned(),
                source,
            })?;
        let mut content = Vec::with_capacity(raw.len() + 8);
        content.extend_from_slice(&width.to_le_bytes());
        content.extend_from_slice(&height.to_le_bytes());
        content.extend_from_slice(raw);
        Ok(Self {
            png,
            pixels: Digest::of(&content),
            fingerprint: Fingerprint::of(grey),
        })
    }
}

fn decode(bytes: &[u8], entry: &str) -> Result<DynamicImage, FetchError> {
    let image_error = |source| FetchError::Image {
        entry: entry.to_owned(),
        source,
    };
    ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| image_error(error.into()))?
        .decode()
        .map_err(image_error)
}

/// Renders an SVG on white. Refuses one that embeds a bitmap or text, because neither would be drawn.
fn draw(bytes: &[u8], entry: &str, side: u32) -> Result<RgbImage, FetchError> {
    if [b"<image".as_slice(), b"<text"]
        .iter()
        .any(|tag| bytes.windows(tag.len()).any(|window| window == *tag))
    {
        return Err(FetchError::content(entry, "it embeds a bitmap or text"));
    }
    let tree = parse(bytes, entry)?;
    let size = tree.size();
    let scale = side as f32 / size.width().max(size.height());
    let length = |length: f32| ((length * scale).round() as u32).clamp(1, side);
    let size = [length(size.width()), length(size.height())];
    rasterise(&tree, [scale; 2], size, entry)
}

/// Renders an SVG of `columns` × `rows` equal cells on white. A cell is `height` pixels high; its width in proportion is
/// rounded, so that every cell begins at a whole pixel. Embedded bitmaps and text are not drawn.
pub(crate) fn render_svg_grid(
    bytes: &[u8],
    entry: &str,
    [columns, rows]: [u32; 2],
    height: u32,
) -> Result<RgbImage, FetchError> {
    let tree = parse(bytes, entry)?;
    let cell = [tree.size().width() / columns as f32, tree.size().height() / rows as f32];
    let width = ((height as f32 * cell[0] / cell[1]).round() as u32).clamp(1, height);
    let scale = [width as f32 / cell[0], height as f32 / cell[1]];
    rasterise(&tree, scale, [width * columns, height * rows], entry)
}

fn parse(bytes: &[u8], entry: &str) -> Result<usvg::Tree, FetchError> {
    usvg::Tree::from_data(bytes, &usvg::Options::default())
        .map_err(|error| FetchError::content(entry, error.to_string()))
}

fn rasterise(
    tree: &usvg::Tree,
    scale: [f32; 2],
    [width, height]: [u32; 2],
    entry: &str,
) -> Result<RgbImage, FetchError> {
    let mut pixmap = tiny_skia::Pixmap::new(width, height).ok_or_else(|| FetchError::content(entry, "no size"))?;
    pixmap.fill(tiny_skia::Color::WHITE);
    resvg::render(
        tree,
        tiny_skia::Transform::from_scale(scale[0], scale[1]),
        &mut pixmap.as_mut(),
    );
    Ok(RgbImage::from_fn(pixmap.width(), pixmap.height(), |x, y| {
        let pixel = pixmap
            .pixel(x, y)
            .map_or([255; 3], |pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        image::Rgb(pixel)
    }))
}

/// Returns the image without its white margins.
fn trim(image: &RgbImage, entry: &str) -> Result<RgbImage, FetchError> {
    const WHITE: u8 = 250;
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, pixel) in image.enumerate_pixels() {
        if pixel.0.iter().any(|&value| value < WHITE) {
            (left, right) = (left.min(x), right.max(x));
            (top, bottom) = (top.min(y), bottom.max(y));
        }
    }
    if left > right {
        return Err(FetchError::content(entry, "the image is blank"));
    }
    Ok(imageops::crop_imm(image, left, top, right - left + 1, bottom - top + 1).to_image())
}

/// Converts to 8-bit RGB, with transparent parts composed onto white.
fn over_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        let blend = |value: u32| ((value * a + 255 * (255 - a) + 127) / 255) as u8;
        image::Rgb([blend(r), blend(g), blend(b)])
    })
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    #[test]
    fn transparent_parts_become_white_and_half_transparent_ones_blend() {
        let mut image = RgbaImage::from_pixel(2, 1, Rgba([0, 0, 0, 0]));
        image.put_pixel(1, 0, Rgba([255, 0, 0, 128]));
        let rgb = over_white(&image.into());
        assert_eq!(rgb.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(rgb.get_pixel(1, 0).0, [255, 127, 127]);
    }

    #[test]
    fn large_images_are_reduced_and_grey_ones_stay_grey() {
        let large = RgbImage::from_fn(600, 200, |x, _| image::Rgb([(x % 256) as u8; 3]));
        let image = Image::from_image(large.into(), "large", None).unwrap();
        let back = image::load_from_memory(&image.png).unwrap();
        assert_eq!((back.width(), back.height()), (300, 100));
        assert_eq!(back.color(), image::ColorType::L8);
    }

    #[test]
    fn an_svg_is_drawn_at_the_asked_size_on_white() {
        let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" width="24" height="12"><rect width="12" height="12" fill="red"/></svg>"#;
        let image = Image::render_svg(svg, "sign", 96).unwrap();
        let back = image::load_from_memory(&image.png).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (96, 48));
        assert_eq!(back.get_pixel(10, 10).0, [255, 0, 0]);
        assert_eq!(back.get_pixel(90, 10).0, [255, 255, 255]);
    }

    #[test]
    fn margins_are_cut_off_and_blank_images_refused() {
        let mut image = RgbImage::from_pixel(10, 10, image::Rgb([255; 3]));
        assert!(trim(&image, "blank").is_err());
        image.put_pixel(3, 4, image::Rgb([0, 255, 255]));
        image.put_pixel(5, 4, image::Rgb([0; 3]));
        assert_eq!(trim(&image, "dots").unwrap().dimensions(), (3, 1));
    }

    #[test]
    fn equal_pixels_have_equal_digests_whatever_the_file() {
        let image = RgbImage::from_fn(8, 8, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut bmp = Cursor::new(Vec::new());
        image.write_to(&mut bmp, image::ImageFormat::Bmp).unwrap();
        let from_bmp = Image::decode(bmp.get_ref(), "a.bmp", None).unwrap();
        let direct = Image::from_image(image.into(), "a", None).unwrap();
        assert_eq!(from_bmp.pixels, direct.pixels);
    }
}
