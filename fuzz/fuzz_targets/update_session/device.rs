//! A device that stores the received bytes.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use clr_adapters::Digest;
use clr_transfer::{
    Begin, Capabilities, Committed, Device, DeviceInfo, Failure, FailureCode, PullInfo, SessionLimits, Slot, Status,
    TaskSummary,
};

/// Stores the received bytes, and asserts that its methods are called according to their documentation.
#[derive(Default)]
pub struct Keeping(Mutex<HashMap<Digest, (u64, Vec<u8>)>>, AtomicU64);

impl Keeping {
    /// Returns the number of modifying calls.
    pub fn acts(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    /// Returns the stored bytes of a transfer.
    pub fn held(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(digest).map(|(_, held)| held.clone())
    }

    fn act(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn no() -> Failure {
    Failure::new(FailureCode::NO_TASK, "no")
}

impl Device for Keeping {
    fn hello(&self) -> DeviceInfo {
        DeviceInfo {
            device: "fuzzed".into(),
            software: "0".into(),
            backbone: Digest([0; 32]),
            capabilities: Capabilities::default(),
        }
    }
    fn begin(&self, begin: &Begin) -> Result<u64, Failure> {
        self.act();
        assert!(begin.length <= SessionLimits::default().transfer_bytes);
        let mut kept = self.0.lock().unwrap();
        let (length, held) = kept.entry(begin.digest).or_insert((begin.length, Vec::new()));
        *length = (*length).max(begin.length);
        Ok(held.len() as u64)
    }
    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        self.act();
        let mut kept = self.0.lock().unwrap();
        let (length, held) = kept.get_mut(digest).expect("a chunk of a transfer that was begun");
        assert!(!data.is_empty() && offset + data.len() as u64 <= *length);
        if held.len() as u64 == offset {
            held.extend(data);
        }
        Ok(held.len() as u64)
    }
    fn commit(&self, begin: &Begin) -> Result<Committed, Failure> {
        self.act();
        let kept = self.0.lock().unwrap();
        match kept.get(&begin.digest) {
            Some((_, held)) if Digest::of(held) == begin.digest => Ok(Committed::Adapter {
                task: "fuzzed".into(),
                version: 1,
                digest: begin.digest,
                trial_frames: 0,
            }),
            Some(_) => Err(Failure::new(FailureCode::WRONG_DIGEST, "wrong")),
            None => Err(Failure::new(FailureCode::NO_TRANSFER, "none")),
        }
    }
    fn abort(&self, digest: &Digest) -> Result<(), Failure> {
        self.act();
        self.0.lock().unwrap().remove(digest);
        Ok(())
    }
    fn status(&self) -> Result<Status, Failure> {
        Err(no())
    }
    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        Ok(Vec::new())
    }
    fn switch(&self, task: &str) -> Result<(), Failure> {
        self.act();
        assert!(!task.is_empty() && task.len() <= clr_transfer::MAX_TASK);
        Ok(())
    }
    fn rollback(&self, _: &str) -> Result<(), Failure> {
        self.act();
        Err(no())
    }
    fn restore(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn remove(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn mark_good(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn mark_bad(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn open(&self, _: &str, _: Slot) -> Result<PullInfo, Failure> {
        Err(no())
    }
    fn read(&self, _: &Digest, _: u64, out: &mut [u8]) -> Result<usize, Failure> {
        assert!(out.len() <= clr_transfer::MAX_CHUNK as usize);
        Ok(out.len())
    }
}
