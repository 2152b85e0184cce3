//! Fashion-MNIST in IDX files: big-endian magic `00 00 08 <dimensions>`, the sizes, and then the bytes.

use image::GrayImage;

use super::{Collected, owned};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 10] = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let source = &sources[0];
    let mut files = std::collections::BTreeMap::new();
    archive::visit(source, &|name| name.ends_with("ubyte.gz"), &mut |name, bytes| {
        let raw = archive::gunzip(&bytes, name)?;
        files.insert(name.rsplit('/').next().unwrap_or(name).to_owned(), raw);
        Ok(())
    })?;
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    for (prefix, held_out) in [("train", false), ("t10k", true)] {
        let file = |kind: &str| {
            let name = format!("{prefix}-{kind}-ubyte.gz");
            files
                .get(&name)
                .ok_or_else(|| FetchError::content(source.file(), format!("no '{name}'")))
        };
        let (sizes, pixels) = idx(file("images-idx3")?, 3)?;
        let (_, labels) = idx(file("labels-idx1")?, 1)?;
        let (rows, columns) = (sizes[1], sizes[2]);
        if labels.len() != sizes[0] || rows * columns == 0 {
            return Err(FetchError::content(source.file(), "images and labels do not match"));
        }
        for (index, (image, &label)) in pixels.chunks_exact(rows * columns).zip(labels).enumerate() {
            let class = usize::from(label);
            if class >= LABELS.len() {
                return Err(FetchError::content(source.file(), format!("label {class} of 10")));
            }
            let name = format!("{prefix}-{index:05}");
            let grey = GrayImage::from_raw(columns as u32, rows as u32, image.to_vec())
                .ok_or_else(|| FetchError::content(&name, "size"))?;
            let image = Image::from_grey(&grey, &name)?;
            collected.samples.push(Sample {
                group: name.clone(),
                name,
                class,
                held_out,
                image,
            });
        }
    }
    Ok(collected)
}

/// Returns sizes and values of an IDX file of unsigned bytes.
fn idx(bytes: &[u8], dimensions: usize) -> Result<(Vec<usize>, &[u8]), FetchError> {
    let broken = |detail: &str| FetchError::content("IDX file", detail);
    let header = 4 + 4 * dimensions;
    if bytes.len() < header || bytes[..3] != [0, 0, 8] || usize::from(bytes[3]) != dimensions {
        return Err(broken("not an IDX header of bytes"));
    }
    let sizes: Vec<usize> = bytes[4..header]
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    let wanted = sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size));
    if wanted != Some(bytes.len() - header) {
        return Err(broken("sizes and length do not match"));
    }
    Ok((sizes, &bytes[header..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idx_file_is_read_and_a_cut_one_refused() {
        let mut bytes = vec![0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend_from_slice(&[1, 2, 3, 4, 5, 6]);
        let (sizes, data) = idx(&bytes, 2).unwrap();
        assert_eq!((sizes, data), (vec![2, 3], [1, 2, 3, 4, 5, 6].as_slice()));
        assert!(idx(&bytes[..bytes.len() - 1], 2).is_err());
        assert!(idx(&bytes, 3).is_err());
        assert!(idx(&[], 1).is_err());
    }
}
