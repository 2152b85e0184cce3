//! Playing cards, labelled by their number of pips: number cards of SVG decks.
//!
//! Each deck is one sheet, compressed with gzip, of 13 columns (ace to king) and 5 rows (clubs, diamonds, hearts,
//! spades; jokers and back). The number cards are the first ten columns of the first four rows.

use image::{GenericImageView, RgbImage, imageops};

use super::{Collected, is_kind, owned, stem};
use crate::{
    FetchError, archive,
    client::Source,
    images::{self, Image},
    split::Sample,
};

/// Two digits each, so that sorted names are in the order of the numbers.
const LABELS: [&str; 10] = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10"];
const SUITS: [&str; 4] = ["clubs", "diamonds", "hearts", "spades"];
/// Columns and rows of a sheet.
const GRID: [u32; 2] = [13, 5];
/// Height of a card in pixels.
const HEIGHT: u32 = 96;
/// Side of an image in pixels. The card is within the centre crop of 0.875 that the backbones take.
const SIDE: u32 = 112;
/// Decks whose cards do not show as many pips as their number: `tango_nuevo` has one large symbol on every card;
/// `swiss-xvii` has two symbols on the ace and one on the two and the ten.
const LEFT_OUT: [&str; 2] = ["swiss-xvii", "tango_nuevo"];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    let wanted =
        |name: &str| name.contains("/aisleriot/cards/") && is_kind(name, "svgz") && !LEFT_OUT.contains(&stem(name));
    archive::visit(&sources[0], &wanted, &mut |name, bytes| {
        match archive::gunzip(&bytes, name).and_then(|sheet| number_cards(&sheet, stem(name))) {
            Ok(cards) => collected.samples.extend(cards),
            Err(error) => collected.unreadable.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok(collected)
}

/// Renders a sheet and returns its number cards, each in the middle of a white square.
fn number_cards(svg: &[u8], deck: &str) -> Result<Vec<Sample>, FetchError> {
    let sheet = images::render_svg_grid(svg, deck, GRID, HEIGHT)?;
    let width = sheet.width() / GRID[0];
    let mut samples = Vec::new();
    for (row, suit) in (0..).zip(SUITS) {
        for (column, (class, label)) in (0..).zip(LABELS.iter().enumerate()) {
            let name = format!("{deck}-{suit}-{label}");
            let card = sheet.view(column * width, row * HEIGHT, width, HEIGHT).to_image();
            let mut square = RgbImage::from_pixel(SIDE, SIDE, image::Rgb([255; 3]));
            let margin = |length: u32| i64::from((SIDE - length) / 2);
            imageops::replace(&mut square, &card, margin(width), margin(HEIGHT));
            let image = Image::from_image(square.into(), &name, None)?;
            samples.push(Sample {
                name,
                class,
                group: family(deck).to_owned(),
                held_out: false,
                image,
            });
        }
    }
    Ok(samples)
}

/// Returns the first word of a deck's name: `anglo_bitmap` and `anglo_modern` are variants of `anglo`.
fn family(deck: &str) -> &str {
    deck.split('_').next().unwrap_or(deck)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// Returns a sheet with one black square per pip. Court cards, jokers and back are black.
    fn sheet() -> String {
        let mut svg = String::from(r#"<svg xmlns="http://www.w3.org/2000/svg" width="130" height="75">"#);
        for row in 0..5 {
            for column in 0..13 {
                let (x, y) = (column * 10, row * 15);
                if row == 4 || column > 9 {
                    write!(svg, r#"<rect x="{x}" y="{y}" width="10" height="15"/>"#).unwrap();
                    continue;
                }
                for pip in 0..=column {
                    let (x, y) = (x + 1 + pip % 4 * 2, y + 2 + pip / 4 * 4);
                    write!(svg, r#"<rect x="{x}" y="{y}" width="1" height="1"/>"#).unwrap();
                }
            }
        }
        svg + "</svg>"
    }

    #[test]
    fn the_class_of_a_card_is_its_number_of_pips() {
        let cards = number_cards(sheet().as_bytes(), "deck").unwrap();
        assert_eq!(cards.len(), 40);
        // A pip is one fifteenth of the card's height.
        let pip = (f64::from(HEIGHT) / 15.0).powi(2) * 255.0;
        for card in &cards {
            let image = image::load_from_memory(&card.image.png).unwrap().to_luma8();
            assert_eq!(image.dimensions(), (SIDE, SIDE));
            let ink: f64 = image.pixels().map(|pixel| 255.0 - f64::from(pixel.0[0])).sum();
            let pips: usize = LABELS[card.class].parse().unwrap();
            assert!((ink / pip - pips as f64).abs() < 0.1, "{}: {}", card.name, ink / pip);
        }
    }

    #[test]
    fn all_cards_of_a_family_are_one_group() {
        let decks = ["anglo", "anglo_modern_4_color", "tango"];
        let cards: Vec<Sample> = decks
            .iter()
            .flat_map(|deck| number_cards(sheet().as_bytes(), deck).unwrap())
            .collect();
        let groups = crate::split::groups(&cards, false);
        assert_eq!(groups, [(0..80).collect::<Vec<_>>(), (80..120).collect()]);
    }
}
