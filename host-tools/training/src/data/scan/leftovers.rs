//! Names of files and folders that operating systems and programs leave among images.

/// Names of files, in lower case.
const FILES: [&str; 14] = [
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "picasa.ini",
    "zbthumbnail.info",
    "icon\r",
    ".ds_store",
    ".nomedia",
    ".directory",
    ".localized",
    ".gitignore",
    ".gitkeep",
    ".gitattributes",
];

/// Names of folders in lower case, whose contents are ignored.
const FOLDERS: [&str; 18] = [
    "__macosx",
    "@eadir",
    "@tmp",
    "@recycle",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
    ".git",
    ".svn",
    ".hg",
    ".ipynb_checkpoints",
    ".spotlight-v100",
    ".fseventsd",
    ".trashes",
    ".thumbnails",
    ".appledouble",
];

/// Extensions of incomplete files, and of copies made by editors.
const UNFINISHED: [&str; 9] = [
    "part",
    "partial",
    "crdownload",
    "opdownload",
    "download",
    "tmp",
    "temp",
    "swp",
    "filepart",
];

/// Returns the reason why a file with this name is ignored, whatever its content.
pub(super) fn file(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let extension = lower.rsplit_once('.').map_or("", |(_, end)| end);
    if FILES.contains(&&*lower) {
        Some(format!("left by a system: {}", lower.trim_end()))
    } else if lower.starts_with("._") {
        Some("left by a system: ._ (macOS)".to_owned())
    } else if UNFINISHED.contains(&extension) {
        Some(format!("unfinished or temporary: .{extension}"))
    } else if lower.starts_with('~') || lower.ends_with('~') {
        Some("unfinished or temporary: ~".to_owned())
    } else if lower.starts_with('.') {
        Some("hidden".to_owned())
    } else {
        None
    }
}

/// Returns the reason why everything in a folder with this name is ignored.
pub(super) fn folder(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if FOLDERS.contains(&&*lower) || lower.starts_with(".trash-") {
        Some(format!("left by a system: in {name}"))
    } else if lower.starts_with('.') {
        Some("hidden".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_known_in_any_case_and_images_are_none() {
        for name in [
            "Thumbs.db",
            "THUMBS.DB",
            ".DS_Store",
            "._a.jpg",
            "a.jpg.part",
            "a.jpg.crdownload",
            "~tmp",
            "a.png~",
            ".x.png",
        ] {
            assert!(file(name).is_some(), "{name}");
        }
        for name in ["a.jpg", "a", "thumbs.png", "part.jpg", "a~b.png"] {
            assert!(file(name).is_none(), "{name}");
        }
        for name in ["__MACOSX", "@eaDir", ".git", "lost+found", ".hidden", ".Trash-1000"] {
            assert!(folder(name).is_some(), "{name}");
        }
        assert!(folder("cat").is_none());
    }
}
