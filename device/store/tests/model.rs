//! Reference model of the store's rules, without files.

use std::collections::BTreeMap;

use crate::random::TASKS;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Install(u64),
    Push(u64),
    Tune(u32),
    Send(u32),
    Confirm,
    Revert,
    RollBack,
    Restore,
    MarkGood,
    MarkBad,
    Use,
    Start,
    Remove,
    File(u8),
    Unfile(u8),
    Checkpoint(u8),
    Clear,
    Activate,
    ActivateGroup,
}

/// An adapter: version and revision.
pub(crate) type Name = (u64, u32);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OnTrial {
    pub(crate) name: Name,
    pub(crate) unclean: u32,
    pub(crate) in_use: bool,
    pub(crate) highest_before: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Task {
    pub(crate) confirmed: Option<Name>,
    pub(crate) trial: Option<OnTrial>,
    pub(crate) last: Option<Name>,
    pub(crate) restore: Option<Name>,
    pub(crate) highest_admitted: u64,
    pub(crate) known: Vec<Name>,
    pub(crate) reverted: Option<Name>,
    pub(crate) examples: Vec<u8>,
    pub(crate) checkpoint: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) tasks: BTreeMap<&'static str, Task>,
    pub(crate) active: Vec<&'static str>,
}

impl Task {
    fn listed(&self) -> bool {
        self.confirmed.is_some() || self.trial.is_some() || self.reverted.is_some()
    }

    fn tidy(&mut self) {
        let tuned = |name: Option<Name>| name.is_some_and(|(_, revision)| revision > 0);
        if !tuned(self.confirmed) && !tuned(self.last) {
            self.restore = None;
        }
    }

    fn end_trial(&mut self) -> bool {
        let Some(trial) = self.trial.take() else {
            return false;
        };
        if trial.name == (self.highest_admitted, 0) && trial.highest_before < self.highest_admitted {
            self.highest_admitted = trial.highest_before;
            self.known.retain(|known| *known != trial.name);
        }
        self.reverted = Some(trial.name);
        true
    }

    fn try_out(&mut self, name: Name) -> bool {
        if self.trial.is_none_or(|trial| trial.name != name) {
            let highest_before = self.highest_admitted;
            if name.1 == 0 {
                self.highest_admitted = self.highest_admitted.max(name.0);
                self.remember(name);
            }
            self.trial = Some(OnTrial {
                name,
                unclean: 0,
                in_use: false,
                highest_before,
            });
        }
        true
    }

    fn remember(&mut self, name: Name) {
        self.known.retain(|known| *known != name);
        self.known.push(name);
    }

    /// Returns whether a received file is admitted.
    fn admits(&self, name: Name) -> bool {
        let on_trial = self.trial.is_some_and(|trial| trial.name == name);
        let known = self.known.contains(&name);
        let (version, revision) = name;
        let fits = if revision > 0 {
            known && version >= self.highest_admitted && self.trial.is_none()
        } else {
            let newer = self.confirmed.is_none_or(|(confirmed, _)| confirmed < version);
            version > self.highest_admitted || version == self.highest_admitted && known && newer
        };
        on_trial || fits && self.confirmed != Some(name)
    }

    /// Applies an operation to the model. Returns whether it succeeds.
    fn act(&mut self, action: Action) -> bool {
        match action {
            // Pushing the confirmed adapter sends nothing, and its commit succeeds.
            Action::Push(version) if self.confirmed == Some((version, 0)) => true,
            Action::Install(version) | Action::Push(version) => self.admits((version, 0)) && self.try_out((version, 0)),
            Action::Send(revision) => self.admits((2, revision)) && self.try_out((2, revision)),
            Action::Tune(revision) => {
                let name = (2, revision);
                let on_trial = self.trial.is_some_and(|trial| trial.name == name);
                let blocked = self.trial.is_some_and(|trial| trial.name.1 == 0);
                let stale = self.confirmed.is_some_and(|(version, _)| version != 2);
                let fits = !blocked && !stale && self.confirmed != Some(name);
                (on_trial || fits) && self.try_out(name)
            }
            Action::Confirm | Action::MarkGood => {
                let Some(OnTrial { name, .. }) = self.trial.take() else {
                    return matches!(action, Action::MarkGood) && self.listed();
                };
                let before = self.confirmed.replace(name);
                if name.1 == 0 {
                    self.highest_admitted = self.highest_admitted.max(name.0);
                } else if let Some((version, 0)) = before {
                    self.restore = Some((version, 0));
                }
                self.last = before
                    .filter(|before| *before != name)
                    .or(self.last)
                    .filter(|last| *last != name);
                self.remember(name);
                self.tidy();
                true
            }
            Action::Revert => self.end_trial(),
            Action::RollBack | Action::MarkBad => {
                if self.end_trial() {
                    return true;
                }
                let bad = matches!(action, Action::MarkBad);
                let better = if bad { self.last.or(self.restore) } else { self.last };
                let (Some(confirmed), Some(better)) = (self.confirmed, better) else {
                    return false;
                };
                self.confirmed = Some(better);
                self.last = if bad { None } else { Some(confirmed) };
                self.reverted = Some(confirmed);
                self.tidy();
                true
            }
            Action::Restore => {
                let mut done = false;
                if self.confirmed.is_some() && self.trial.is_some_and(|trial| trial.name.1 > 0) {
                    done = self.end_trial();
                }
                if let (Some(tuned @ (_, 1..)), Some(original)) = (self.confirmed, self.restore) {
                    (self.confirmed, self.last, self.reverted) = (Some(original), Some(tuned), Some(tuned));
                    done = true;
                }
                self.tidy();
                done
            }
            Action::Use => match &mut self.trial {
                Some(trial) => {
                    trial.in_use = true;
                    true
                }
                None => false,
            },
            Action::Start => {
                let Some(trial) = &mut self.trial else {
                    return self.listed();
                };
                if std::mem::take(&mut trial.in_use) {
                    trial.unclean += 1;
                    if trial.unclean == 3 {
                        self.end_trial();
                    }
                }
                true
            }
            Action::Remove => {
                let there = self.listed() || !self.examples.is_empty() || self.checkpoint.is_some();
                let (highest_admitted, known) = (self.highest_admitted, std::mem::take(&mut self.known));
                if there {
                    *self = Self {
                        highest_admitted,
                        known,
                        ..Self::default()
                    };
                } else {
                    self.known = known;
                }
                there
            }
            Action::File(image) => {
                let there = self.examples.contains(&image);
                if !there && self.examples.len() < 4 {
                    self.examples.push(image);
                    self.examples.sort_unstable();
                }
                self.examples.contains(&image)
            }
            Action::Unfile(image) => {
                let there = self.examples.contains(&image);
                self.examples.retain(|known| *known != image);
                there
            }
            Action::Checkpoint(value) => {
                self.checkpoint = Some(value);
                true
            }
            Action::Clear => {
                self.checkpoint = None;
                true
            }
            Action::Activate | Action::ActivateGroup => self.listed(),
        }
    }
}

impl Model {
    pub(crate) fn act(&mut self, task: &'static str, action: Action) -> bool {
        let state = self.tasks.entry(task).or_default();
        let mut done = state.act(action);
        match action {
            Action::Activate if done => self.active = vec![task],
            // The group of both tasks, of which this one is the first.
            Action::ActivateGroup => {
                let listed = |task: &str| self.tasks.get(task).is_some_and(Task::listed);
                let other = TASKS.into_iter().find(|other| *other != task);
                done = done && other.is_some_and(listed);
                if done {
                    self.active = [task].into_iter().chain(other).collect();
                }
            }
            Action::Remove if done => self.active.retain(|active| *active != task),
            _ => {}
        }
        done
    }
}
