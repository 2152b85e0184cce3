//! Two processes on one store: the second is refused and told the first one's process id. The end of the first process
//! frees the store.
#![cfg(not(miri))]

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use clr_store::{Store, StoreError, simulation::Disk};

use crate::world::{confirmed, file, options};

const PATH: &str = "CLR_STORE_TEST_LOCK";

#[test]
fn a_second_process_is_refused_with_the_pid_of_the_first() {
    // The child process opens the store and waits.
    if let Some(path) = env::var_os(PATH) {
        let store = Store::open_directory(Path::new(&path), options()).unwrap();
        confirmed(&store, &file("birds", 1));
        println!("open");
        let _ = std::io::stdin().read(&mut [0]);
        drop(store);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Runs the child under an emulator if the tests are compiled for another CPU architecture.
    let mut words: Vec<_> = env::var("CLR_TEST_RUNNER")
        .unwrap_or_default()
        .split_whitespace()
        .map(OsString::from)
        .collect();
    words.push(env::current_exe().unwrap().into());
    let mut first = Command::new(&words[0])
        .args(&words[1..])
        .args([
            "--exact",
            "--nocapture",
            "lock::a_second_process_is_refused_with_the_pid_of_the_first",
        ])
        .env(PATH, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("open")));
    let Err(error) = Store::open_directory(directory.path(), options()) else {
        panic!("opened twice")
    };
    let pid = first.id();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(got) } if got == pid),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("process {pid}")));
    // SIGKILL: the process cannot clean up, and does not have to.
    first.kill().unwrap();
    first.wait().unwrap();
    let store = Store::open_directory(directory.path(), options()).unwrap();
    assert_eq!(store.tasks().len(), 1);
    assert_eq!(store.verify().unwrap().problems, []);
}

#[test]
fn within_a_process_a_store_opens_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_directory(directory.path(), options()).unwrap();
    let second = Store::open_directory(directory.path(), options());
    assert!(matches!(second, Err(StoreError::Locked { pid: Some(pid) }) if pid == std::process::id()));
    drop(store);
    Store::open_directory(directory.path(), options()).unwrap();

    let disk = Arc::new(Disk::new());
    let store = Store::open(disk.clone(), options()).unwrap();
    assert!(matches!(
        Store::open(disk.clone(), options()),
        Err(StoreError::Locked { .. })
    ));
    drop(store);
    Store::open(disk, options()).unwrap();
}
