//! Installation of adapters: from received bytes to an adapter on trial.

use std::sync::atomic::Ordering;

use clr_adapters::{Admitted, Digest, Provenance, Refusal, SignerClass, sign, signature};

use super::{Store, Writer};
use crate::{
    atomic::{self, Failure},
    error::StoreError,
    layout::adapter_path,
    record::Record,
    state::{StoredAdapter, StoredTask},
};

/// An installed adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// Name of the task.
    pub task: String,
    /// The adapter.
    pub held: StoredAdapter,
    /// Whether the adapter was installed before. In this case nothing has changed, except that damaged bytes of its
    /// file were replaced.
    pub already: bool,
}

/// Origin of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Received,
    Tuned,
}

impl Store {
    /// Installs a complete upload on trial. The call may be repeated if its result was lost. A refused upload is
    /// discarded; an upload that did not fit on the disk is kept. `now` is in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`StoreError`] in the same cases as [`Store::upload`] and [`Store::install`].
    pub fn commit(&self, digest: &Digest, now: Option<u64>) -> Result<Installed, StoreError> {
        let mut writer = self.writer();
        // As in `begin`: if the adapter was installed in another way in the meantime, no upload is needed and earlier
        // pieces are discarded.
        if let Some((task, held)) = self.in_force(digest)
            && (!(writer.incoming.contains(digest) || writer.staging.contains(digest))
                || self.read_adapter(&held).is_ok())
        {
            self.drop_upload(&mut writer, digest);
            return Ok(Installed {
                task,
                held,
                already: true,
            });
        }
        let bytes = self.complete(&mut writer, digest)?;
        let result = self.take(&mut writer, &bytes, now, Origin::Received);
        if matches!(result, Ok(_) | Err(StoreError::Refused(_))) {
            self.drop_upload(&mut writer, digest);
        } else {
            writer.keep_upload(digest, bytes);
        }
        result
    }

    /// Installs a file on trial, which ends an earlier trial of the task. `now` is in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with a refusal of [`clr_adapters::admit`], with [`Refusal::Replay`] or
    /// [`Refusal::Downgrade`] if the version is not above the highest admitted one, or with [`Refusal::WrongClass`] if
    /// this device signed the file but has never confirmed it; [`StoreError::TrialUnderWay`] if this device signed the
    /// file and another adapter is on trial; [`StoreError::DamagedRecord`] if the task's record is damaged;
    /// [`StoreError::Full`] if a cap is reached; [`StoreError::Io`] if the disk fails.
    pub fn install(&self, file: &[u8], now: Option<u64>) -> Result<Installed, StoreError> {
        self.take(&mut self.writer(), file, now, Origin::Received)
    }

    /// Installs an adapter tuned on this device, on trial. The device's key must have signed the file. If
    /// [`crate::StoreOptions`] has that key, the file may be unsigned; this call then signs it. The adapter's version
    /// must be that of the confirmed adapter. The publisher's original is kept as the restore point. Without a
    /// confirmed adapter, this call creates the task.
    ///
    /// # Errors
    /// As [`Store::install`]. Also [`StoreError::Stale`] if the version differs from that of the confirmed adapter;
    /// [`StoreError::TrialUnderWay`] if an adapter from a publisher is on trial; [`StoreError::NotTunedHere`] if the
    /// file has the wrong provenance or signer.
    pub fn install_tuned(&self, file: &[u8]) -> Result<Installed, StoreError> {
        let mut writer = self.writer();
        let unsigned = signature(file, &self.options.limits).map_err(Refusal::from)?.is_none();
        match self.key.get() {
            Some(key) if unsigned => {
                let signed = sign(file, SignerClass::Device, key).map_err(Refusal::from)?;
                self.take(&mut writer, &signed, None, Origin::Tuned)
            }
            _ => self.take(&mut writer, file, None, Origin::Tuned),
        }
    }

    /// Returns the task in which an adapter is on trial or confirmed. Such an adapter does not have to be sent again.
    #[must_use]
    pub fn in_force(&self, digest: &Digest) -> Option<(String, StoredAdapter)> {
        self.snapshot().records.values().find_map(|record| {
            let state = &record.state;
            let held = [state.trial.map(|trial| trial.held), state.confirmed];
            let held = held.into_iter().flatten().find(|held| held.digest == *digest)?;
            Some((state.task.clone(), held))
        })
    }

    fn take(
        &self,
        writer: &mut Writer,
        file: &[u8],
        now: Option<u64>,
        origin: Origin,
    ) -> Result<Installed, StoreError> {
        let admitted = self.admit(file, now)?;
        self.prepare(writer)?;
        let header = &admitted.decoded.adapter.header;
        let (task, digest) = (header.task.clone(), admitted.decoded.digest);
        let snapshot = self.snapshot();
        if snapshot.damaged.contains(&task) {
            return Err(StoreError::DamagedRecord { task });
        }
        let known = snapshot.records.get(&task);
        if let Some(held) = known.and_then(|record| record.state.holds(&digest)) {
            let intact = self.read_adapter(&held).is_ok();
            if !intact {
                atomic::place(&*self.storage, &adapter_path(&digest), file, true)?;
                self.written.adapters.fetch_add(file.len() as u64, Ordering::Relaxed);
            }
            let on_trial = known.is_some_and(|record| record.is_on_trial(&digest));
            if !intact || on_trial {
                return Ok(Installed {
                    task,
                    held,
                    already: true,
                });
            }
        }
        self.check_task_cap(&task)?;
        self.finish_erasing(writer, &task)?;
        let mut record = match self.snapshot().records.get(&task) {
            Some(record) => Record::clone(record),
            None => Record::new(&task),
        };
        let held = StoredAdapter {
            digest,
            version: header.version,
            revision: header.revision,
            bytes: file.len() as u64,
            tuned: match origin {
                Origin::Received => check_received(&record, &admitted)?,
                Origin::Tuned => check_tuned(&record, &admitted).map(|()| true)?,
            },
        };
        let referenced = snapshot.is_referenced(&digest);
        if !referenced {
            // Its upload is removed after installation.
            let uploaded = writer.incoming.contains(&digest);
            self.check_room(writer, if uploaded { 0 } else { held.bytes })?;
            atomic::place(&*self.storage, &adapter_path(&digest), file, false)?;
            self.written.adapters.fetch_add(file.len() as u64, Ordering::Relaxed);
        }
        record.admit(held);
        self.put(writer, record).map_err(|failure| {
            if matches!(failure, Failure::Untouched(_)) && !referenced {
                self.remove_leftover(&adapter_path(&digest));
            }
            failure.into_error()
        })?;
        Ok(Installed {
            task,
            held,
            already: false,
        })
    }
}

/// Applies the version rules for received files. Returns whether this device tuned the adapter.
fn check_received(record: &Record, admitted: &Admitted) -> Result<bool, StoreError> {
    let header = &admitted.decoded.adapter.header;
    let (task, version, digest) = (header.task.clone(), header.version, admitted.decoded.digest);
    let StoredTask {
        highest_admitted,
        confirmed,
        trial,
        ..
    } = record.state;
    let known = record.known.contains(&digest);
    let tuned = admitted
        .signer
        .is_some_and(|signer| signer.class == SignerClass::Device);
    if tuned && !known {
        return Err(Refusal::WrongClass {
            class: SignerClass::Device,
            provenance: header.provenance,
            revision: header.revision,
        }
        .into());
    }
    let is_confirmed = confirmed.is_some_and(|confirmed| confirmed.digest == digest);
    // An adapter tuned here has its parent's version. A file at the highest version is accepted only if it was admitted
    // before and then removed, taken out by hand, or replaced by one that failed. It may not replace an adapter that
    // was tuned on top of it.
    let taken_out = confirmed.is_none_or(|confirmed| confirmed.version < version);
    let may_equal = tuned || (known && taken_out);
    if is_confirmed || (version <= highest_admitted && known && !(version == highest_admitted && may_equal)) {
        return Err(Refusal::Replay { task, version, digest }.into());
    }
    if version < highest_admitted || (version == highest_admitted && !may_equal) {
        return Err(Refusal::Downgrade {
            task,
            highest_admitted,
            got: version,
        }
        .into());
    }
    // Rising versions limit how often one trial can replace another. Tuned adapters share a version, so they could
    // replace each other indefinitely.
    if let Some(trial) = trial.filter(|_| tuned) {
        return Err(StoreError::TrialUnderWay {
            task,
            version: trial.held.version,
        });
    }
    Ok(tuned)
}

/// Applies the rules for adapters tuned here.
fn check_tuned(record: &Record, admitted: &Admitted) -> Result<(), StoreError> {
    let header = &admitted.decoded.adapter.header;
    let task = || header.task.clone();
    let reason = match &admitted.signer {
        Some(signer) if signer.class != SignerClass::Device => Some("another signer's"),
        None if header.provenance != Provenance::DeviceTuned || header.revision == 0 => {
            Some("its header says otherwise")
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(StoreError::NotTunedHere { task: task(), reason });
    }
    if let Some(trial) = record.state.trial.filter(|trial| !trial.held.tuned) {
        return Err(StoreError::TrialUnderWay {
            task: task(),
            version: trial.held.version,
        });
    }
    match record.state.confirmed {
        Some(confirmed) if confirmed.version != header.version => Err(StoreError::Stale {
            task: task(),
            expected: confirmed.version,
            got: header.version,
        }),
        Some(confirmed) if confirmed.digest == admitted.decoded.digest => Err(Refusal::Replay {
            task: task(),
            version: header.version,
            digest: confirmed.digest,
        }
        .into()),
        _ => Ok(()),
    }
}
