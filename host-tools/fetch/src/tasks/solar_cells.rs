//! Electroluminescence images of solar cells. `labels.csv` has the columns `path probability type`, separated by
//! spaces.

use std::collections::BTreeMap;

use super::{Collected, is_kind, owned, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const LABELS: [&str; 2] = ["functional", "defective"];
/// Number of consecutive cells in a group.
const BLOCK: usize = 32;

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let source = &sources[0];
    let table = archive::one(source, &|name| name.ends_with("data/labels.csv"), "labels.csv")?;
    let cells = parse(&String::from_utf8_lossy(&table))?;
    let mut collected = Collected {
        labels: owned(&LABELS),
        ..Collected::default()
    };
    let wanted = |name: &str| is_kind(name, "png") && cells.contains_key(stem(name));
    archive::visit(source, &wanted, &mut |name, bytes| {
        let cell = &cells[stem(name)];
        match Image::decode(&bytes, name, None) {
            Ok(image) => collected.samples.push(Sample {
                name: format!("{}-{}", stem(name), cell.kind),
                class: usize::from(cell.probability >= 0.5),
                group: format!("block{}", cell.index / BLOCK),
                held_out: false,
                image,
            }),
            Err(error) => collected.unreadable.push(error.to_string()),
        }
        Ok(())
    })?;
    Ok(collected)
}

#[derive(Debug, PartialEq)]
struct Cell {
    index: usize,
    probability: f64,
    kind: String,
}

/// Returns the cell of each file stem.
fn parse(table: &str) -> Result<BTreeMap<String, Cell>, FetchError> {
    let mut cells = BTreeMap::new();
    for (index, line) in table.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let mut columns = line.split_whitespace();
        let (Some(path), Some(probability)) = (columns.next(), columns.next().and_then(|text| text.parse().ok()))
        else {
            return Err(FetchError::content(
                "labels.csv",
                format!("line {} is not 'path probability type'", index + 1),
            ));
        };
        let kind = columns.next().unwrap_or("unknown").to_owned();
        cells.insert(
            stem(path).to_owned(),
            Cell {
                index,
                probability,
                kind,
            },
        );
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_a_broken_line_named() {
        let cells = parse("images/cell0001.png  1.0   mono\nimages/cell0002.png  0.333   poly\n").unwrap();
        assert_eq!(
            cells["cell0002"],
            Cell {
                index: 1,
                probability: 0.333,
                kind: "poly".to_owned()
            }
        );
        let error = parse("images/cell0001.png  1.0 mono\nimages/cell0002.png  ?\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
