//! A device in memory: it assembles transfers, checks digests, applies deltas and stores tasks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use clr_adapters::{Digest, Provenance, delta};
use clr_transfer::{
    Begin, Capabilities, Committed, Device, DeviceInfo, ExampleSelection, ExampleSummary, Failure, FailureCode, Frames,
    Health, Kind, Latency, Memory, MessageFault, PullInfo, RemovedExamples, Slot, Status, TaskState, TaskSummary,
};

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) parts: HashMap<Digest, Vec<u8>>,
    /// Complete files, by digest.
    pub(crate) files: HashMap<Digest, Vec<u8>>,
    pub(crate) commits: u32,
    /// Executed calls that must not be repeated.
    pub(crate) acts: Vec<String>,
    pub(crate) active: Vec<String>,
    /// Simulates an older device, which classifies with one task at a time.
    pub(crate) one_task: bool,
    pub(crate) tasks: BTreeMap<String, Digest>,
    pub(crate) backbone: Option<Digest>,
    /// Simulates an old device that cannot parse announcements.
    pub(crate) old: bool,
    /// Number of announced transfers that began.
    pub(crate) announced: u32,
    /// Loses every transfer at its second chunk.
    pub(crate) forgetful: bool,
    /// The health to report; with `None` the request is unsupported, as on older devices.
    pub(crate) health: Option<Health>,
    /// Names of the failed requests, with their failure codes.
    pub(crate) refused: Vec<(&'static str, FailureCode)>,
    pub(crate) examples: Vec<ExampleSummary>,
}

#[derive(Default)]
pub(crate) struct MemoryDevice(pub(crate) Mutex<Kept>);

impl MemoryDevice {
    pub(crate) fn with_task(task: &str, file: &[u8]) -> Self {
        let device = Self::default();
        let digest = Digest::of(file);
        let mut kept = device.0.lock().unwrap();
        kept.files.insert(digest, file.to_vec());
        kept.tasks.insert(task.into(), digest);
        drop(kept);
        device
    }

    pub(crate) fn holds(&self, file: &[u8]) -> bool {
        self.0
            .lock()
            .unwrap()
            .files
            .get(&Digest::of(file))
            .is_some_and(|held| held == file)
    }

    fn backbone(&self) -> Digest {
        self.0.lock().unwrap().backbone.unwrap_or(Digest([7; 32]))
    }

    fn act(&self, what: &str, task: &str) -> Result<(), Failure> {
        let mut kept = self.0.lock().unwrap();
        if !kept.tasks.contains_key(task) {
            return Err(no_task(task));
        }
        kept.acts.push(format!("{what} {task}"));
        Ok(())
    }
}

fn no_task(task: &str) -> Failure {
    Failure::new(
        FailureCode::NO_TASK,
        format_args!("no task '{task}'\nhint: `clr device list` names them"),
    )
}

impl Device for MemoryDevice {
    fn hello(&self) -> DeviceInfo {
        DeviceInfo {
            device: "memory".into(),
            software: "test".into(),
            backbone: self.backbone(),
            capabilities: Capabilities {
                delta: true,
                examples: true,
                tuning: false,
            },
        }
    }

    fn begin(&self, begin: &Begin) -> Result<u64, Failure> {
        let mut kept = self.0.lock().unwrap();
        if let Kind::Release(release) | Kind::ReleaseDelta { release, .. } = &begin.kind {
            if kept.old {
                return Err(Failure::new(FailureCode::MALFORMED, "the message cannot be read"));
            }
            assert!(release.holds());
            kept.announced += 1;
        }
        if let Kind::Delta { base, .. } | Kind::ReleaseDelta { base, .. } = &begin.kind
            && !kept.files.contains_key(base)
        {
            return Err(Failure::new(
                FailureCode::NO_BASE,
                format_args!("no file {}", base.short()),
            ));
        }
        if kept.files.contains_key(&begin.digest) {
            return Ok(begin.length);
        }
        Ok(kept.parts.entry(begin.digest).or_default().len() as u64)
    }

    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        let mut kept = self.0.lock().unwrap();
        let part = kept
            .parts
            .get_mut(digest)
            .ok_or_else(|| Failure::new(FailureCode::NO_TRANSFER, "not begun"))?;
        if part.len() as u64 == offset {
            part.extend(data);
        }
        let held = part.len() as u64;
        if kept.forgetful && offset > 0 {
            kept.parts.remove(digest);
            return Err(Failure::new(FailureCode::NO_TRANSFER, "forgotten"));
        }
        Ok(held)
    }

    fn commit(&self, begin: &Begin) -> Result<Committed, Failure> {
        let mut kept = self.0.lock().unwrap();
        if !kept.files.contains_key(&begin.digest) {
            let part = kept.parts.remove(&begin.digest).unwrap_or_default();
            if part.len() as u64 != begin.length {
                kept.parts.insert(begin.digest, part);
                return Err(Failure::new(FailureCode::NO_TRANSFER, "not all of it is here"));
            }
            if Digest::of(&part) != begin.digest {
                return Err(Failure::new(
                    FailureCode::WRONG_DIGEST,
                    "the bytes are not the ones announced",
                ));
            }
            kept.files.insert(begin.digest, part);
            kept.commits += 1;
        }
        match &begin.kind {
            Kind::Example { task, label } => Ok(Committed::Example {
                task: task.clone(),
                label: label.clone(),
                duplicate: false,
            }),
            Kind::Delta { base, target, .. } | Kind::ReleaseDelta { base, target, .. } => {
                let length = begin.kind.made_bytes().unwrap() as usize;
                let file = delta::apply(&kept.files[base], &kept.files[&begin.digest], length)
                    .map_err(|error| Failure::new(FailureCode::DELTA, error))?;
                assert_eq!(Digest::of(&file), *target);
                kept.files.insert(*target, file);
                Ok(installed(&mut kept, *target))
            }
            _ => Ok(installed(&mut kept, begin.digest)),
        }
    }

    fn abort(&self, digest: &Digest) -> Result<(), Failure> {
        self.0.lock().unwrap().parts.remove(digest);
        Ok(())
    }

    fn status(&self) -> Result<Status, Failure> {
        let backbone = self.backbone();
        let kept = self.0.lock().unwrap();
        Ok(Status {
            device: "memory".into(),
            software: "test".into(),
            backbone,
            active_task: kept.active.first().cloned(),
            auto: false,
            uptime_seconds: 5,
            frames: Frames::default(),
            latency: Latency::default(),
            memory: Memory::default(),
            trials: vec![],
            reverts: vec![],
            tuning: None,
        })
    }

    fn health(&self) -> Result<Health, Failure> {
        let health = self.0.lock().unwrap().health.clone();
        health.ok_or_else(|| Failure::new(FailureCode::UNSUPPORTED, "no health"))
    }

    fn refused(&self, request: &'static str, failure: &Failure) {
        self.0.lock().unwrap().refused.push((request, failure.code));
    }

    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        let kept = self.0.lock().unwrap();
        let summary = |(task, digest): (&String, &Digest)| TaskSummary {
            task: task.clone(),
            labels: 3,
            version: 1,
            revision: 0,
            digest: *digest,
            file_bytes: kept.files.get(digest).map_or(0, |file| file.len() as u64),
            active: kept.active.contains(task),
            state: TaskState::OnTrial { frames_left: 9 },
            provenance: Provenance::HostTrained,
            signer: Some("ab".repeat(32)),
            has_last_good: false,
            has_original: false,
            last_revert: Some("too slow ".repeat(100)),
        };
        // Not sorted by name: the protocol sorts.
        Ok(kept.tasks.iter().rev().map(summary).collect())
    }

    fn switch(&self, task: &str) -> Result<(), Failure> {
        self.act("switch", task)?;
        self.0.lock().unwrap().active = vec![task.into()];
        Ok(())
    }

    fn switch_group(&self, tasks: &[&str]) -> Result<(), Failure> {
        if self.0.lock().unwrap().one_task {
            return Err(MessageFault::Unknown { kind: 31 }.into());
        }
        tasks.iter().try_for_each(|task| self.act("switch", task))?;
        self.0.lock().unwrap().active = tasks.iter().map(|&task| task.into()).collect();
        Ok(())
    }

    fn selection(&self) -> Result<Vec<String>, Failure> {
        let kept = self.0.lock().unwrap();
        if kept.one_task {
            return Err(MessageFault::Unknown { kind: 32 }.into());
        }
        Ok(kept.active.clone())
    }

    fn rollback(&self, task: &str) -> Result<(), Failure> {
        self.act("rollback", task)
    }

    fn restore(&self, task: &str) -> Result<(), Failure> {
        self.act("restore", task)
    }

    fn remove(&self, task: &str) -> Result<(), Failure> {
        self.act("remove", task)
    }

    fn mark_good(&self, task: &str) -> Result<(), Failure> {
        self.act("mark-good", task)
    }

    fn mark_bad(&self, task: &str) -> Result<(), Failure> {
        self.act("mark-bad", task)
    }

    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure> {
        let kept = self.0.lock().unwrap();
        let digest = *kept.tasks.get(task).ok_or_else(|| no_task(task))?;
        if slot == Slot::LastGood {
            return Err(Failure::new(FailureCode::NO_FILE, "nothing before"));
        }
        let length = kept.files[&digest].len() as u64;
        Ok(PullInfo { digest, length })
    }

    fn examples(&self, _: &str) -> Result<Vec<ExampleSummary>, Failure> {
        Ok(self.0.lock().unwrap().examples.clone())
    }

    fn open_example(&self, task: &str, id: &Digest) -> Result<PullInfo, Failure> {
        let kept = self.0.lock().unwrap();
        let file = kept.files.get(id).ok_or_else(|| no_task(task))?;
        let length = file.len() as u64;
        Ok(PullInfo { digest: *id, length })
    }

    fn remove_examples(&self, _: &str, selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        let mut kept = self.0.lock().unwrap();
        let before = kept.examples.len();
        kept.examples.retain(|example| match selection {
            ExampleSelection::Image(id) => example.id != *id,
            ExampleSelection::Label(label) => example.label.as_ref() != Some(label),
            _ => example.label.is_some(),
        });
        Ok(RemovedExamples {
            images: (before - kept.examples.len()) as u32,
            without_images: Vec::new(),
        })
    }

    fn remove_class(&self, task: &str, label: &str) -> Result<RemovedExamples, Failure> {
        let removed = self.remove_examples(task, &ExampleSelection::Label(label.to_owned()))?;
        self.0.lock().unwrap().acts.push(format!("remove-class {label}"));
        if removed.images == 0 {
            return Err(Failure::new(FailureCode::TUNING, format_args!("no class `{label}`")));
        }
        Ok(removed)
    }

    fn read(&self, digest: &Digest, offset: u64, out: &mut [u8]) -> Result<usize, Failure> {
        let kept = self.0.lock().unwrap();
        let file = kept
            .files
            .get(digest)
            .ok_or_else(|| Failure::new(FailureCode::NO_FILE, "no such file"))?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Installs a file and returns the result. The task is the adapter's own if the file is an adapter.
fn installed(kept: &mut Kept, digest: Digest) -> Committed {
    let header = clr_adapters::decode(&kept.files[&digest]).map(|decoded| decoded.adapter.header);
    let (task, version) = header.map_or(("birds".into(), 1), |header| (header.task, header.version));
    kept.tasks.insert(task.clone(), digest);
    Committed::Adapter {
        task,
        version,
        digest,
        trial_frames: 0,
    }
}
