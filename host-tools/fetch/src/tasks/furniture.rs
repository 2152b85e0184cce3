//! Images of furniture in `.sh3f` catalogues, which are zip files with a Java properties file (`name#N`, `icon#N`,
//! `category#N`).

use std::{collections::BTreeMap, io::Cursor};

use super::{Collected, is_kind, stem};
use crate::{FetchError, archive, client::Source, images::Image, split::Sample};

const PROPERTIES: &str = "PluginFurnitureCatalog.properties";
const LEFT_OUT: [&str; 2] = ["Miscellaneous", "Staircases"];

pub(super) fn collect(sources: &[Source]) -> Result<Collected, FetchError> {
    let mut found: Vec<(String, Sample)> = Vec::new();
    let mut unreadable = Vec::new();
    archive::visit(&sources[0], &|name| is_kind(name, "sh3f"), &mut |catalogue, bytes| {
        let mut properties = String::new();
        archive::visit_zip(
            catalogue,
            Cursor::new(&bytes),
            &|name| name == PROPERTIES,
            &mut |_, text| {
                // Java properties files are Latin-1.
                properties = text.iter().map(|&byte| char::from(byte)).collect();
                Ok(())
            },
        )?;
        let pieces = pieces(&properties);
        let wanted = |name: &str| pieces.contains_key(name);
        archive::visit_zip(catalogue, Cursor::new(&bytes), &wanted, &mut |name, image| {
            match Image::decode(&image, name, None) {
                Ok(image) => {
                    let sample = Sample {
                        name: format!("{}-{}", stem(catalogue).to_lowercase(), stem(name)),
                        class: 0,
                        group: format!("{}/{name}", stem(catalogue)),
                        held_out: false,
                        image,
                    };
                    found.push((pieces[name].clone(), sample));
                }
                Err(error) => unreadable.push(error.to_string()),
            }
            Ok(())
        })
    })?;
    let mut labels: Vec<String> = found.iter().map(|(category, _)| category.clone()).collect();
    labels.sort_unstable();
    labels.dedup();
    let samples = found
        .into_iter()
        .filter_map(|(category, sample)| {
            Some(Sample {
                class: labels.binary_search(&category).ok()?,
                ..sample
            })
        })
        .collect();
    Ok(Collected {
        labels: labels
            .iter()
            .map(|label| label.to_lowercase().replace(' ', "-"))
            .collect(),
        samples,
        unreadable,
    })
}

/// Returns the category of each icon file in the zip.
fn pieces(properties: &str) -> BTreeMap<String, String> {
    let (mut icons, mut categories) = (BTreeMap::new(), BTreeMap::new());
    for line in properties.lines() {
        let Some((key, value)) = line.trim_start().split_once('=') else {
            continue;
        };
        if let Some(number) = key.strip_prefix("icon#") {
            icons.insert(number, value.trim().trim_start_matches('/'));
        } else if let Some(number) = key.strip_prefix("category#") {
            categories.insert(number, value.trim());
        }
    }
    icons
        .into_iter()
        .filter_map(|(number, icon)| Some((icon.to_owned(), (*categories.get(number)?).to_owned())))
        .filter(|(_, category)| !LEFT_OUT.contains(&category.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icons_and_categories_are_matched_by_number() {
        let text = "id=x\nname#1=Bed\ncategory#1=Bedroom\nicon#1=/a/bed.png\nicon#2=/a/x.png\ncategory#2=Miscellaneous\n\
                    icon#3=/a/lost.png\n# category#3=Office\n";
        let pieces = pieces(text);
        assert_eq!(
            pieces.into_iter().collect::<Vec<_>>(),
            [("a/bed.png".to_owned(), "Bedroom".to_owned())]
        );
    }
}
