//! Handwritten digits from two sources: JSON files with brightness in 0–1, and a sheet of 20×20 cells.

use image::{GenericImageView, GrayImage};

use super::{Collected, is_kind, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

#[derive(serde::Deserialize)]
struct Digits {
    data: Vec<f32>,
}

pub(super) fn collect_json(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut collected = Collected {
        labels: labels(),
        ..Collected::default()
    };
    archive::visit(
        &sources[0],
        &|name| name.contains("/digits/") && is_kind(name, "json"),
        &mut |name, bytes| {
            let class = class_of(stem(name)).ok_or_else(|| FetchError::content(name, "not a digit's file"))?;
            for (index, grey) in from_json(name, &bytes)?.into_iter().enumerate() {
                push(&mut collected, format!("{class}-{index:04}"), class, &grey)?;
            }
            Ok(())
        },
    )?;
    Ok(collected)
}

pub(super) fn collect_sheet(sources: &[Source]) -> Result<Collected, FetchError> {
    let bytes = archive::one(
        &sources[0],
        &|name| name.ends_with("examples/data/digits.png"),
        "digits.png",
    )?;
    let sheet = image::load_from_memory(&bytes)
        .map_err(|source| FetchError::Image {
            entry: "digits.png".to_owned(),
            source,
        })?
        .to_luma8();
    if sheet.dimensions() != (2_000, 1_000) {
        return Err(FetchError::content(
            "digits.png",
            format!("size {:?}, expected 2000 × 1000", sheet.dimensions()),
        ));
    }
    let mut collected = Collected {
        labels: labels(),
        ..Collected::default()
    };
    for row in 0..50 {
        for column in 0..100 {
            let cell = sheet.view(column * 20, row * 20, 20, 20).to_image();
            push(
                &mut collected,
                format!("row{row:02}-column{column:02}"),
                row as usize / 5,
                &cell,
            )?;
        }
    }
    Ok(collected)
}

fn labels() -> Vec<String> {
    (0..10).map(|digit| digit.to_string()).collect()
}

fn class_of(stem: &str) -> Option<usize> {
    stem.parse().ok().filter(|&digit| digit < 10)
}

fn push(collected: &mut Collected, name: String, class: usize, grey: &GrayImage) -> Result<(), FetchError> {
    let image = Image::from_grey(grey, &name)?;
    collected.samples.push(Sample {
        group: name.clone(),
        name,
        class,
        held_out: false,
        image,
    });
    Ok(())
}

/// Reads `{"data": [784 values per image in 0–1]}`.
fn from_json(name: &str, bytes: &[u8]) -> Result<Vec<GrayImage>, FetchError> {
    let digits: Digits = serde_json::from_slice(bytes).map_err(|error| FetchError::content(name, error.to_string()))?;
    if digits.data.is_empty() || !digits.data.len().is_multiple_of(784) {
        return Err(FetchError::content(
            name,
            format!("{} values are not images of 784", digits.data.len()),
        ));
    }
    let pixels = |values: &[f32]| {
        values
            .iter()
            .map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
            .collect()
    };
    Ok(digits
        .data
        .chunks_exact(784)
        .filter_map(|values| GrayImage::from_raw(28, 28, pixels(values)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_becomes_bytes_and_a_part_of_an_image_is_refused() {
        let mut values = vec![0.0_f32; 784];
        values[5] = 0.502;
        values[6] = 1.0;
        let json = serde_json::json!({ "data": values }).to_string();
        let images = from_json("3.json", json.as_bytes()).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].as_raw()[5], images[0].as_raw()[6]), (128, 255));
        assert!(from_json("3.json", br#"{"data":[0.1,0.2]}"#).is_err());
        assert!(from_json("3.json", b"[]").is_err());
    }
}
