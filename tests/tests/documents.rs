//! Links in documents, and documents that code refers to, exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Folders without documents or sources.
const SKIPPED: [&str; 4] = [".git", "target", "corpus", "artifacts"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the files below `folder` with one of these extensions.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED.iter().any(|name| path.ends_with(name)) {
                found.extend(files(&path, extensions));
            }
        } else if path
            .extension()
            .is_some_and(|kind| extensions.iter().any(|name| kind == *name))
        {
            found.push(path);
        }
    }
    found
}

/// Returns the lines of a document outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns GitHub's anchors of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Returns the targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn every_link_in_a_document_has_a_target() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in files(root(), &["md"]) {
        let text = fs::read_to_string(&document).unwrap();
        for target in prose(&text).flat_map(links).filter(|target| !target.contains("://")) {
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(path)
            };
            let leads = file.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !leads {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_document_that_the_code_names_exists() {
    let mut broken = Vec::new();
    for source in files(root(), &["rs", "toml", "py", "sh", "service"]) {
        let text = fs::read_to_string(&source).unwrap_or_default();
        for (start, _) in text.match_indices("docs/") {
            let rest = &text[start..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || "/-_.".contains(c)))
                .unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches('.');
            if Path::new(name).extension().is_some_and(|kind| kind == "md") && !root().join(name).exists() {
                broken.push(format!("{}: {name}", source.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_json_document_is_listed_with_its_version() {
    let list = fs::read_to_string(root().join("docs/reference/json.md")).unwrap();
    let mut count = 0;
    for snapshot in files(&root().join("tests/tests/snapshots"), &["snap"]) {
        let text = fs::read_to_string(&snapshot).unwrap();
        let Some(schema) = text.lines().find_map(|line| line.strip_prefix("schema: ")) else {
            continue;
        };
        count += 1;
        let name = schema.trim_matches('"');
        assert!(
            list.contains(&format!("`{name}`")),
            "{}: {name} is not in docs/reference/json.md",
            snapshot.display()
        );
    }
    assert!(count > 15, "only {count} documents have a snapshot");
}
