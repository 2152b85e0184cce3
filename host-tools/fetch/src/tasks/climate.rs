//! Climate zones: tiles of a satellite composite (`bmng.jpg`, equirectangular, 15 pixels per degree), labelled by the
//! Köppen grid.
//!
//! The grid (`kmz_int_reshape.png`, 36 cells per degree) contains a zone number per cell; `kg_zoneNum.csv` has the
//! names. In both, row 0 is 90° north and column 0 is 180° west. Zone 32 is the ocean.

use image::{GenericImageView, GrayImage, RgbImage};

use super::{Collected, owned};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 8] = [
    "rainforest",
    "savanna",
    "desert",
    "steppe",
    "temperate",
    "continental",
    "subarctic",
    "polar",
];
/// Side of a tile in pixels: 4°.
const TILE: u32 = 60;
/// Distance between adjacent tiles in pixels.
const STEP: u32 = 30;
/// Width of a strip in pixels: 15°.
const STRIP: u32 = 225;
/// Tiles that start further south than 60° S are left out, because Antarctica is entirely white. In degrees from the
/// north pole.
const SOUTHERN_END: u32 = 150;
/// Minimum fraction of a tile that one climate must cover.
const PURITY: f32 = 0.7;

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let photograph = image(&sources[0], "bmng.jpg")?.to_rgb8();
    let grid = image(&sources[1], "kmz_int_reshape.png")?.to_luma8();
    let names = archive::one(&sources[1], &|name| name.ends_with("kg_zoneNum.csv"), "kg_zoneNum.csv")?;
    let zones = zones(&names)?;
    collect_tiles(&photograph, &grid, &zones)
}

fn image(source: &Source, file: &'static str) -> Result<image::DynamicImage, FetchError> {
    let bytes = archive::one(source, &|name| name.ends_with(file), file)?;
    image::load_from_memory(&bytes).map_err(|source| FetchError::Image {
        entry: file.to_owned(),
        source,
    })
}

fn collect_tiles(photograph: &RgbImage, grid: &GrayImage, zones: &[Option<usize>]) -> Result<Collected, FetchError> {
    let (width, height) = photograph.dimensions();
    let bottom = height * SOUTHERN_END / 180;
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    for strip in 0..width / STRIP {
        for top in (0..=bottom.saturating_sub(TILE)).step_by(STEP as usize) {
            // Tiles do not cross the edges of their strip.
            for left in (strip * STRIP..=(strip + 1) * STRIP - TILE).step_by(STEP as usize) {
                let Some(class) = climate(grid, zones, (width, height), left, top) else {
                    continue;
                };
                let name = format!("strip{strip:02}-x{left:04}-y{top:04}");
                let tile = photograph.view(left, top, TILE, TILE).to_image();
                let image = Image::from_image(tile.into(), &name, None)?;
                collected.samples.push(Sample {
                    name,
                    class,
                    group: format!("strip{strip:02}"),
                    held_out: false,
                    image,
                });
            }
        }
    }
    Ok(collected)
}

/// Returns the climate that covers at least [`PURITY`] of a tile.
fn climate(grid: &GrayImage, zones: &[Option<usize>], size: (u32, u32), left: u32, top: u32) -> Option<usize> {
    let mut counts = [0_u32; LABELS.len()];
    let mut samples = 0;
    for y in (top..top + TILE).step_by(3) {
        for x in (left..left + TILE).step_by(3) {
            let column = (f64::from(x) + 0.5) * f64::from(grid.width()) / f64::from(size.0);
            let row = (f64::from(y) + 0.5) * f64::from(grid.height()) / f64::from(size.1);
            let number = grid
                .get_pixel(
                    (column as u32).min(grid.width() - 1),
                    (row as u32).min(grid.height() - 1),
                )
                .0[0];
            if let Some(Some(class)) = zones.get(usize::from(number)) {
                counts[*class] += 1;
            }
            samples += 1;
        }
    }
    let (class, &count) = counts.iter().enumerate().max_by_key(|&(_, count)| count)?;
    (count as f32 >= PURITY * samples as f32).then_some(class)
}

/// Returns the class of each zone number, read from `,kg_zone,zoneNum` rows.
fn zones(csv_bytes: &[u8]) -> Result<Vec<Option<usize>>, FetchError> {
    let broken = |detail: String| FetchError::content("kg_zoneNum.csv", detail);
    let mut zones = vec![None; 256];
    for record in csv::Reader::from_reader(csv_bytes).records() {
        let record = record.map_err(|error| broken(error.to_string()))?;
        let (Some(zone), Some(number)) = (
            record.get(1),
            record.get(2).and_then(|number| number.parse::<u8>().ok()),
        ) else {
            return Err(broken("a row without zone and number".to_owned()));
        };
        zones[usize::from(number)] = class_of(zone);
    }
    Ok(zones)
}

/// Returns the class of a Köppen zone.
fn class_of(zone: &str) -> Option<usize> {
    let label = match zone {
        "Af" | "Am" => "rainforest",
        "As" | "Aw" => "savanna",
        "BWh" | "BWk" => "desert",
        "BSh" | "BSk" => "steppe",
        "EF" | "ET" => "polar",
        _ if zone.starts_with('C') => "temperate",
        _ if zone.starts_with('D') && zone.ends_with(['a', 'b']) => "continental",
        _ if zone.starts_with('D') && zone.ends_with(['c', 'd']) => "subarctic",
        _ => return None,
    };
    LABELS.iter().position(|&one| one == label)
}

#[cfg(test)]
mod tests {
    use image::{Luma, Rgb};

    use super::*;

    #[test]
    fn zones_are_read_and_the_ocean_has_no_class() {
        let zones = zones(b",kg_zone,zoneNum\n1,Af,1\n19,Dfb,19\n20,Dfc,20\n32,Ocean,32\n").unwrap();
        assert_eq!(
            (zones[1], zones[19], zones[20], zones[32], zones[0]),
            (Some(0), Some(5), Some(6), None, None)
        );
    }

    #[test]
    fn no_tile_reaches_over_a_strip_and_mixed_tiles_are_dropped() {
        let photograph = RgbImage::from_fn(450, 120, |x, y| Rgb([(x % 256) as u8, y as u8, 0]));
        // The west half is rainforest, the east half desert, and the lower half ocean.
        let grid = GrayImage::from_fn(900, 240, |x, y| {
            Luma([if y >= 120 {
                32
            } else if x < 450 {
                1
            } else {
                2
            }])
        });
        let mut zones = vec![None; 256];
        zones[1] = Some(0);
        zones[2] = Some(2);
        let collected = collect_tiles(&photograph, &grid, &zones).unwrap();
        assert!(!collected.samples.is_empty());
        for sample in &collected.samples {
            let left: u32 = sample.name[9..13].parse().unwrap();
            assert_eq!(left / STRIP, (left + TILE - 1) / STRIP, "{}", sample.name);
            assert!(sample.name.ends_with("y0000"), "{} is half ocean", sample.name);
            assert_eq!(sample.class, if sample.group == "strip00" { 0 } else { 2 });
        }
    }
}
