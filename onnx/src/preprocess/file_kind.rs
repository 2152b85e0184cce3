//! Kinds of files, determined from their first bytes or, if these are unspecific, from their names.

use std::path::Path;

/// Number of first bytes that suffice to determine the kind of a file.
pub const FILE_HEAD: usize = 512;

/// The kind of a file in a folder of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// An image in a supported format, such as `JPEG`.
    Image(&'static str),
    /// An image, or a file that contains images, in an unsupported format.
    Unread {
        /// The format, such as `HEIC`.
        name: &'static str,
        /// A way to convert it to a supported image.
        advice: &'static str,
    },
    /// Labels or notes stored next to images, such as `JSON`.
    Annotation(&'static str),
    /// A file of no bytes.
    Empty,
    /// Anything else.
    Other,
}

/// Formats by the first bytes of their files.
const STARTS: [(&[u8], &str, &str); 20] = [
    (b"\xff\x0a", "JPEG XL", JXL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", JXL),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", JP2),
    (b"\xff\x4f\xff\x51", "JPEG 2000", JP2),
    (b"8BPS", "Photoshop (PSD)", PILLOW),
    (b"%PDF", "PDF", "turn its pages into images: pdftoppm -png IN.pdf OUT"),
    (b"\x1aE\xdf\xa3", "video (Matroska)", VIDEO),
    (b"\0\0\x01\xba", "video (MPEG)", VIDEO),
    (b"FUJIFILMCCD-RAW", "raw (RAF)", RAW),
    (b"IIRO", "raw (ORF)", RAW),
    (b"IIRS", "raw (ORF)", RAW),
    (b"IIU\0", "raw (RW2)", RAW),
    (b"\x76\x2f\x31\x01", "OpenEXR", MAGICK),
    (b"#?RADIANCE", "Radiance HDR", MAGICK),
    (b"qoif", "QOI", PILLOW),
    (b"DDS ", "DDS", PILLOW),
    (b"\0\0\x01\0", "icon (ICO)", PILLOW),
    (b"\x93NUMPY", "NumPy array", "write each image as a PNG"),
    (b"\x89HDF\r\n", "HDF5", "write each image as a PNG"),
    (b"PK\x03\x04", "archive (ZIP)", "unpack it"),
];

/// Formats by extension, for files whose content is not a supported image.
const EXTENSIONS: [(&str, &str, &str); 26] = [
    ("heic", "HEIC", HEIC),
    ("heif", "HEIF", HEIC),
    ("avif", "AVIF", AVIF),
    ("jxl", "JPEG XL", JXL),
    ("jp2", "JPEG 2000", JP2),
    ("svg", "SVG", SVG),
    ("svgz", "SVG", SVG),
    ("psd", "Photoshop (PSD)", PILLOW),
    ("tga", "Targa", PILLOW),
    ("eps", "EPS", MAGICK),
    ("dng", "raw (DNG)", RAW),
    ("cr2", "raw (CR2)", RAW),
    ("cr3", "raw (CR3)", RAW),
    ("nef", "raw (NEF)", RAW),
    ("nrw", "raw (NRW)", RAW),
    ("arw", "raw (ARW)", RAW),
    ("pef", "raw (PEF)", RAW),
    ("srw", "raw (SRW)", RAW),
    ("orf", "raw (ORF)", RAW),
    ("rw2", "raw (RW2)", RAW),
    ("raf", "raw (RAF)", RAW),
    ("dcm", "DICOM", DICOM),
    ("mp4", "video (MP4)", VIDEO),
    ("mov", "video (MOV)", VIDEO),
    ("avi", "video (AVI)", VIDEO),
    ("tfrecord", "TFRecord", "write each image as a file"),
];

/// Extensions of supported images.
const IMAGE_EXTENSIONS: [&str; 19] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "webp", "gif", "ppm", "pgm", "pbm", "pnm", "pam", "tif",
    "tiff", "btf", "jif",
];

const HEIC: &str = "convert it: heif-convert IN.heic OUT.jpg";
const AVIF: &str = "convert it: avifdec IN.avif OUT.png";
const JXL: &str = "convert it: djxl IN.jxl OUT.png";
const JP2: &str = "convert it: opj_decompress -i IN.jp2 -o OUT.png";
const SVG: &str = "draw it: rsvg-convert IN.svg -o OUT.png";
const RAW: &str = "develop it: darktable-cli IN OUT.jpg";
const VIDEO: &str = "take frames from it: ffmpeg -i IN -vf fps=1 OUT%05d.png";
const DICOM: &str = "convert it: dcmj2pnm +on IN.dcm OUT.png";
const MAGICK: &str = "convert it with ImageMagick: magick IN OUT.png, before version 7 convert IN OUT.png";
/// Hint for a conversion with Pillow, which is installed together with training libraries.
pub(super) const PILLOW: &str =
    "convert it: python3 -c \"from PIL import Image; Image.open('IN').convert('RGBA').save('OUT.png')\"";

impl FileKind {
    /// Returns the kind of a file, from its name and its first [`FILE_HEAD`] bytes (or all bytes of a shorter file).
    #[must_use]
    pub fn of(name: &Path, start: &[u8]) -> Self {
        if start.is_empty() {
            return Self::Empty;
        }
        let extension = name
            .extension()
            .map(|end| end.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let named = EXTENSIONS.iter().find(|(end, ..)| *end == extension);
        let unread = |name, advice| Self::Unread { name, advice };
        if let Some(format) = image_format(start) {
            // Raw files are TIFF files with a thumbnail and undeveloped sensor data.
            return match named {
                Some(&(_, raw, advice)) if format == "TIFF" && advice == RAW => unread(raw, advice),
                _ if format == "TIFF" && start.get(8..10) == Some(b"CR") => unread("raw (CR2)", RAW),
                _ if format == "TIFF" && !cfg!(feature = "tiff") => unread("TIFF", PILLOW),
                _ => Self::Image(format),
            };
        }
        if let Some((name, advice)) = unread_format(start) {
            return unread(name, advice);
        }
        if start.starts_with(b"version https://git-lfs") {
            return unread("Git LFS pointer", "fetch the file itself: git lfs pull");
        }
        let annotation = match &*extension {
            "json" | "jsonl" | "ndjson" | "geojson" => Some("JSON"),
            "xml" => Some("XML"),
            "txt" | "text" | "md" | "rst" | "names" | "log" => Some("text"),
            "csv" | "tsv" => Some("CSV"),
            "yaml" | "yml" | "toml" | "ini" | "cfg" => Some("settings"),
            "mat" | "pkl" | "pickle" | "parquet" | "xlsx" => Some("table"),
            _ => None,
        };
        if let Some(annotation) = annotation {
            return Self::Annotation(annotation);
        }
        if let Some(&(_, name, advice)) = named {
            return unread(name, advice);
        }
        if IMAGE_EXTENSIONS.contains(&&*extension) {
            return if is_web_page(start) {
                unread("web page", "download the image itself again")
            } else {
                unread("no image by its content", "look at it, or delete it")
            };
        }
        Self::Other
    }
}

/// Returns the format of a supported image, including formats that are not built in.
pub(super) fn image_format(start: &[u8]) -> Option<&'static str> {
    let format = match start {
        [0xff, 0xd8, 0xff, ..] => "JPEG",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "PNG",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "GIF",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "WebP",
        [b'I', b'I', 0x2a | 0x2b, 0, ..] | [b'M', b'M', 0, 0x2a | 0x2b, ..] => "TIFF",
        [b'P', kind @ b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => match kind {
            b'1' | b'4' => "PBM",
            b'2' | b'5' => "PGM",
            b'3' | b'6' => "PPM",
            _ => "PAM",
        },
        // Many texts start with these two letters, so the size of the following header is checked too.
        [b'B', b'M', rest @ ..]
            if rest
                .get(12)
                .is_some_and(|size| [12, 16, 40, 52, 56, 64, 108, 124].contains(size)) =>
        {
            "BMP"
        }
        _ => return None,
    };
    Some(format)
}

/// Returns the name of an unsupported format, with a hint.
pub(super) fn unread_format(start: &[u8]) -> Option<(&'static str, &'static str)> {
    if start.get(4..8) == Some(b"ftyp") {
        let length = start
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize);
        let brands = start.get(8..length.clamp(12, start.len().max(12))).unwrap_or_default();
        let has = |names: &[&[u8; 4]]| {
            brands
                .chunks_exact(4)
                .any(|brand| names.iter().any(|name| *name == brand))
        };
        return Some(if has(&[b"avif", b"avis"]) {
            ("AVIF", AVIF)
        } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
            ("HEIC", HEIC)
        } else if has(&[b"crx "]) {
            ("raw (CR3)", RAW)
        } else {
            ("video (MP4 or MOV)", VIDEO)
        });
    }
    if start.starts_with(b"RIFF") && start.get(8..11) == Some(b"AVI") {
        return Some(("video (AVI)", VIDEO));
    }
    if start.get(128..132) == Some(b"DICM") {
        return Some(("DICOM", DICOM));
    }
    if start.windows(4).any(|word| word.eq_ignore_ascii_case(b"<svg")) {
        return Some(("SVG", SVG));
    }
    let found = STARTS.iter().find(|(magic, ..)| start.starts_with(magic));
    found.map(|&(_, name, advice)| (name, advice))
}

fn is_web_page(start: &[u8]) -> bool {
    let text = start.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, start: &[u8]) -> FileKind {
        FileKind::of(Path::new(name), start)
    }

    fn name(kind: FileKind) -> &'static str {
        match kind {
            FileKind::Unread { name, .. } => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_content_decides_whatever_the_name_says() {
        let jpeg = [0xff, 0xd8, 0xff, 0xe0];
        for file in ["a.jpg", "a.jfif", "a", "a.png", "a.txt", "a.JPE"] {
            assert_eq!(of(file, &jpeg), FileKind::Image("JPEG"), "{file}");
        }
        assert_eq!(of("a.png", b"P6\n2 2\n255\n"), FileKind::Image("PPM"));
        assert_eq!(of("a", b"P5 2 2 255 "), FileKind::Image("PGM"));
        assert_eq!(
            of("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
            FileKind::Unread {
                name: "HEIC",
                advice: HEIC
            }
        );
        assert_eq!(name(of("a.jpg", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf")), "AVIF");
        assert_eq!(
            name(of("a.jpg", b"\0\0\0\x14ftypisom\0\0\0\0mp42")),
            "video (MP4 or MOV)"
        );
        assert_eq!(name(of("a.jpg", b"<!DOCTYPE html><html>")), "web page");
        assert_eq!(
            name(of("a.jpg", b"version https://git-lfs.github.com/spec/v1\n")),
            "Git LFS pointer"
        );
        assert_eq!(name(of("x", b"<?xml version=\"1.0\"?>\n<svg xmlns=")), "SVG");
        assert_eq!(name(of("photo.NEF", b"MM\0*\0\0\0\x08")), "raw (NEF)");
        assert_eq!(name(of("photo", b"II*\0\x10\0\0\0CR\x02\0")), "raw (CR2)");
    }

    #[test]
    fn the_name_decides_where_the_content_does_not() {
        assert_eq!(name(of("IMG_1.HEIC", b"?")), "HEIC");
        assert_eq!(name(of("photo.jpg", b"nonsense")), "no image by its content");
        assert_eq!(of("notes.txt", b"BMW, blue"), FileKind::Annotation("text"));
        assert_eq!(of("labels.csv", b"a,b"), FileKind::Annotation("CSV"));
        assert_eq!(of("via.json", b"{}"), FileKind::Annotation("JSON"));
        assert_eq!(of("a.jpg", b""), FileKind::Empty);
        assert_eq!(of("tool.exe", b"MZ"), FileKind::Other);
    }
}
