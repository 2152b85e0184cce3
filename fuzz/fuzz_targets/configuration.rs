//! Fuzz target of the configuration file: `clr_daemon::Config::read`.
//!
//! An accepted configuration provides the paths and trust rules that the daemon needs. A refusal names the file.
#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use clr_daemon::Config;
use libfuzzer_sys::fuzz_target;

/// One file per process, in memory if the system has a folder for that.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("clr-fuzz-{}.toml", std::process::id()))
});

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, data).expect("a file in memory");
    match Config::read(&FILE) {
        Ok(config) => {
            let folder = FILE.parent().unwrap();
            assert!(config.backbone.starts_with(folder) || config.backbone.has_root());
            assert!(config.store().starts_with(&config.state));
            assert!(!config.socket().as_os_str().is_empty());
            // Key files are not part of the text.
            if config.trust.keys.iter().all(|key| key.file.is_none()) {
                config.trust(None).expect("keys that were checked");
            }
            let _ = format!("{config:?}");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("clr-fuzz-"), "the file is not named: {text}");
        }
    }
    let _ = fs::remove_file(&*FILE);
});
