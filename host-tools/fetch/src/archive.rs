//! Archive readers: wheels and `.sh3f` (zip), npm and sdist (tar.gz), Debian (the tar from dpkg-deb).

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
    process::{Command, Stdio},
};

use super::{FetchError, client::Source, package::Client};

/// Callback for an entry: its name and its bytes.
type Visit<'a> = dyn FnMut(&str, Vec<u8>) -> Result<(), FetchError> + 'a;

/// Maximum bytes of an entry. The largest entry in use is a 60 MB catalogue.
const ENTRY_CAP: u64 = 256 << 20;

/// Calls `visit` for every regular file that `wanted` accepts, in the archive's order. Links are skipped.
pub(crate) fn visit(source: &Source, wanted: &dyn Fn(&str) -> bool, visit: &mut Visit<'_>) -> Result<(), FetchError> {
    let path = &source.path;
    match source.client {
        Client::Wheel => visit_zip(&source.file(), open(path)?, wanted, visit),
        Client::Sdist | Client::Npm => {
            visit_tar(&source.file(), flate2::read::GzDecoder::new(open(path)?), wanted, visit)
        }
        Client::Apt => visit_deb(source, wanted, visit),
    }
}

/// Returns the single entry that `wanted` accepts.
pub(crate) fn one(source: &Source, wanted: &dyn Fn(&str) -> bool, what: &str) -> Result<Vec<u8>, FetchError> {
    let mut found = None;
    visit(source, wanted, &mut |_, bytes| {
        found.get_or_insert(bytes);
        Ok(())
    })?;
    found.ok_or_else(|| FetchError::content(source.file(), format!("no {what} in it")))
}

/// Does the same as [`visit`], for a zip file in memory or on disk.
pub(crate) fn visit_zip(
    name: &str,
    reader: impl Read + Seek,
    wanted: &dyn Fn(&str) -> bool,
    visit: &mut Visit<'_>,
) -> Result<(), FetchError> {
    let broken = |error: zip::result::ZipError| FetchError::content(name, error.to_string());
    let mut archive = zip::ZipArchive::new(reader).map_err(broken)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let entry_name = entry.name().map_err(broken)?.into_owned();
        if entry.is_file() && wanted(&entry_name) {
            let bytes = read_entry(&mut entry, name, &entry_name)?;
            visit(&entry_name, bytes)?;
        }
    }
    Ok(())
}

fn visit_tar(
    name: &str,
    reader: impl Read,
    wanted: &dyn Fn(&str) -> bool,
    visit: &mut Visit<'_>,
) -> Result<(), FetchError> {
    let broken = |error: io::Error| FetchError::content(name, error.to_string());
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let entry_name = String::from_utf8_lossy(&entry.path_bytes())
            .trim_start_matches("./")
            .to_owned();
        if entry.header().entry_type().is_file() && wanted(&entry_name) {
            let bytes = read_entry(&mut entry, name, &entry_name)?;
            visit(&entry_name, bytes)?;
        }
    }
    Ok(())
}

fn visit_deb(source: &Source, wanted: &dyn Fn(&str) -> bool, visit: &mut Visit<'_>) -> Result<(), FetchError> {
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FetchError::ClientMissing {
            client: "dpkg-deb",
            package: source.package.to_owned(),
            hint: "install dpkg, which unpacks Debian packages",
        },
        _ => FetchError::Io {
            action: "run",
            path: "dpkg-deb".into(),
            source: error,
        },
    };
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&source.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(missing)?;
    let walked = match child.stdout.take() {
        Some(stdout) => visit_tar(&source.file(), BufReader::new(stdout), wanted, visit),
        None => Err(FetchError::content(source.file(), "dpkg-deb gave no output")),
    };
    // The reader may reach the end of the archive before dpkg-deb has written its padding.
    let _ = child.kill();
    let _ = child.wait();
    walked
}

fn read_entry(entry: &mut impl Read, archive: &str, name: &str) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let read = entry
        .take(ENTRY_CAP + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FetchError::content(archive, format!("'{name}': {error}")))?;
    if read as u64 > ENTRY_CAP {
        return Err(FetchError::content(
            archive,
            format!("'{name}' is larger than {ENTRY_CAP} bytes"),
        ));
    }
    Ok(bytes)
}

/// Returns the content of a gzip file in memory.
pub(crate) fn gunzip(bytes: &[u8], name: &str) -> Result<Vec<u8>, FetchError> {
    read_entry(&mut flate2::read::GzDecoder::new(bytes), name, name)
}

fn open(path: &Path) -> Result<BufReader<File>, FetchError> {
    File::open(path).map(BufReader::new).map_err(|source| FetchError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_is_walked_in_order_and_links_are_skipped() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if kind == tar::EntryType::Symlink {
                header.set_link_name("a.png").unwrap();
            }
            header.set_cksum();
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        add("a.png", tar::EntryType::Regular, b"first");
        add("link.png", tar::EntryType::Symlink, b"");
        add("b.txt", tar::EntryType::Regular, b"text");
        add("c.png", tar::EntryType::Regular, b"second");
        let bytes = builder.into_inner().unwrap();
        let mut seen = Vec::new();
        visit_tar("t", bytes.as_slice(), &|name| name != "b.txt", &mut |name, bytes| {
            seen.push((name.to_owned(), bytes));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                ("a.png".to_owned(), b"first".to_vec()),
                ("c.png".to_owned(), b"second".to_vec())
            ]
        );
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let error = visit_zip("z", io::Cursor::new(b"not a zip".to_vec()), &|_| true, &mut |_, _| {
            Ok(())
        })
        .unwrap_err();
        assert!(matches!(error, FetchError::Content { .. }), "{error}");
    }
}
