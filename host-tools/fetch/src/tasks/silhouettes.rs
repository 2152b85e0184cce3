//! Animal outlines: a gzipped `numpy` pickle with 10,000 images, and one with their labels.

use clr_onnx::NumpyArray;
use image::GrayImage;

use super::{Collected, is_kind, owned};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 10] = [
    "bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra",
];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let source = &sources[0];
    let file = |part: &'static str| -> Result<Vec<u8>, FetchError> {
        let packed = archive::one(source, &move |name| name.contains(part) && is_kind(name, "gz"), part)?;
        archive::gunzip(&packed, part)
    };
    let (images, labels) = (file("animal_data")?, file("animal_label")?);
    let (images, labels) = (only_array(&images, source)?, only_array(&labels, source)?);
    let [count, height, width] = images.shape[..] else {
        return Err(FetchError::content(
            source.file(),
            format!("images of shape {:?}", images.shape),
        ));
    };
    if images.element != "u1" || labels.element != "i8" || labels.shape != [count] || width * height == 0 {
        return Err(FetchError::content(source.file(), "images and labels do not match"));
    }
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    let labels = labels.bytes.chunks_exact(8);
    for (index, (pixels, label)) in images.bytes.chunks_exact(width * height).zip(labels).enumerate() {
        let class = usize::from(label[0]);
        if class >= LABELS.len() {
            return Err(FetchError::content(source.file(), format!("label {class} of 10")));
        }
        let name = format!("{index:05}");
        let grey = GrayImage::from_raw(width as u32, height as u32, pixels.to_vec())
            .ok_or_else(|| FetchError::content(&name, "size"))?;
        let image = Image::from_grey(&grey, &name)?;
        collected.samples.push(Sample {
            group: name.clone(),
            name,
            class,
            held_out: false,
            image,
        });
    }
    Ok(collected)
}

fn only_array<'a>(pickle: &'a [u8], source: &Source) -> Result<NumpyArray<'a>, FetchError> {
    let mut arrays = clr_onnx::numpy_arrays(pickle, &source.file())?;
    match arrays.pop() {
        Some(array) if arrays.is_empty() => Ok(array),
        _ => Err(FetchError::content(source.file(), "expected one array in each pickle")),
    }
}
