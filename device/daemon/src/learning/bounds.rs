//! The device's limits for learning, and the forecast of a run.

use clr_store::StoreError;
use clr_transfer::{ClassForecast, Failure, FailureCode, Lack, TuneForecast, TuneRequest};
use clr_tuning::{Examples as _, Forecast, TrainableScope, TuneError, TuneOptions};

use super::{Learner, stored::StoredImages};
use crate::{TuningConfig, error::with_causes};

/// Upper limit of the default memory of the process during tuning, in bytes.
const MEMORY: u64 = 300_000_000;
/// Minimum number of training frames for refitting the class weights after the steps.
const FRAMES_TO_FIT: usize = 20;

/// Limits of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Memory of the process, in bytes.
    pub(super) memory: u64,
    pub(super) steps: u32,
    pub(super) seconds: u32,
}

impl Bounds {
    /// Returns the limits of the configuration. The default memory is half of the machine's.
    pub(super) fn of(config: &TuningConfig) -> Self {
        Self {
            memory: config.memory.unwrap_or_else(|| machine_memory() / 2),
            steps: config.steps,
            seconds: config.seconds,
        }
    }

    /// Returns the limits of a run: each requested limit, or the default for one that the request omits. A default
    /// never exceeds these limits.
    ///
    /// # Errors
    /// [`FailureCode::BUDGET`] if the request asks for more than these limits.
    pub(super) fn grant(self, request: &TuneRequest) -> Result<Self, Failure> {
        let over = |what: &str, asked: String, most: String, key: &str| {
            Failure::new(
                FailureCode::BUDGET,
                format_args!(
                    "{asked} of {what} requested, at most {most} allowed on this device\nhint: ask for less, or raise `{key}` \
                     under [tuning] in its configuration"
                ),
            )
        };
        let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
        if let Some(asked) = request.memory.filter(|&asked| asked > self.memory) {
            return Err(over("memory", megabytes(asked), megabytes(self.memory), "memory"));
        }
        if let Some(asked) = request.steps.filter(|&asked| asked > self.steps) {
            return Err(over(
                "training",
                format!("{asked} steps"),
                format!("{}", self.steps),
                "steps",
            ));
        }
        if let Some(asked) = request.seconds.filter(|&asked| asked > self.seconds) {
            return Err(over(
                "time",
                format!("{asked} s"),
                format!("{} s", self.seconds),
                "seconds",
            ));
        }
        Ok(Self {
            memory: request.memory.unwrap_or(MEMORY.min(self.memory)),
            steps: request.steps.unwrap_or(TuneOptions::default().steps.min(self.steps)),
            seconds: request.seconds.unwrap_or(self.seconds),
        })
    }
}

/// Returns the memory of this machine in bytes, or of the device's control group if that has less.
fn machine_memory() -> u64 {
    let all = physical_memory().unwrap_or(2 * MEMORY);
    group_memory().map_or(all, |group| group.min(all))
}

fn physical_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn group_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let most = std::fs::read_to_string(format!("/sys/fs/cgroup/{own}/memory.max")).ok()?;
    most.trim().parse().ok()
}

impl Learner {
    /// Returns a forecast of a run and the obstacles to promoting its result, without starting it.
    pub(crate) fn tune_check(&self, request: &TuneRequest) -> Result<TuneForecast, Failure> {
        let task = request.task.as_str();
        let config = self.runtime.config.load();
        let granted = Bounds::of(&config.tuning).grant(request)?;
        let fault = |error: &dyn std::error::Error| Failure::new(FailureCode::TUNING, with_causes(error));
        let serving = match self.runtime.store.serving(task) {
            Err(StoreError::NoSuchTask { .. }) => {
                return Err(Failure::new(
                    FailureCode::NO_TASK,
                    format_args!("task `{task}` has no adapter to tune\nhint: teach images of 2 classes to create it"),
                ));
            }
            serving => serving.map_err(|error| fault(&error))?,
        };
        let parent = self.runtime.parent(&serving).map_err(|error| fault(&error))?;
        let images = StoredImages::all(&self.runtime, task);
        let list = images
            .list()
            .map_err(|error| Failure::new(FailureCode::STORAGE, error))?;
        let count = list.len();
        let outlook = clr_tuning::forecast(&parent, list);
        let mut lacks = lacks(&outlook, config.tuning.max_frames, task);
        let options = TuneOptions::default()
            .with_steps(granted.steps.max(1))
            .with_scope((!outlook.has_steps).then_some(TrainableScope::Head))
            .with_max_memory(granted.memory);
        let plan = match clr_tuning::plan_memory(self.runtime.engine.backbone(), &parent, count, &options) {
            Ok(plan) => Some(plan),
            Err(error @ TuneError::Budget { .. }) => {
                let text = with_causes(&error);
                let (what, hint) = text.split_once("\nhint: ").unwrap_or((&text, "a larger budget"));
                lacks.push(Lack {
                    what: what.to_owned(),
                    hint: hint.to_owned(),
                    blocks: true,
                });
                None
            }
            Err(error) => return Err(fault(&error)),
        };
        Ok(TuneForecast {
            frames: outlook.frames as u32,
            judges: outlook.judges as u32,
            judges_needed: if outlook.protects {
                outlook.judges_needed as u32
            } else {
                0
            },
            steps: if outlook.has_steps { granted.steps } else { 0 },
            plan: plan.as_ref().map(ToString::to_string),
            memory: plan.as_ref().map(|plan| plan.peak),
            classes: (outlook.classes.into_iter())
                .map(|class| ClassForecast {
                    label: class.label,
                    images: class.images as u32,
                    held_out: class.held_out as u32,
                    learned: class.learned,
                })
                .collect(),
            lacks,
        })
    }
}

/// Returns the obstacles to promotion, most serious first.
fn lacks(outlook: &Forecast, frames_kept: usize, task: &str) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut lack = |blocks: bool, what: String, hint: String| lacks.push(Lack { what, hint, blocks });
    let learned = || outlook.classes.iter().filter(|class| class.learned);
    let file = |label: &str| format!("clr device teach --task {task} --label {label} IMAGES…");
    if learned().next().is_none() {
        lack(
            true,
            format!("no labelled image is stored for task `{task}`, so there is nothing to learn from"),
            file("LABEL"),
        );
    } else if learned().all(|class| class.held_out == 0) {
        let named: Vec<&str> = learned().map(|class| class.label.as_str()).collect();
        lack(
            true,
            format!(
                "no image is held out to evaluate the result: one image only of {}",
                named.join(", ")
            ),
            format!("5 or more images of each class, better 20: {}", file(named[0])),
        );
    }
    for class in learned().filter(|class| class.images < 10) {
        lack(
            false,
            format!(
                "{} of the {} images of `{}` are held out: an improvement on so few images may be noise, and is not promoted",
                class.held_out, class.images, class.label
            ),
            format!("20 images of a class: {}", file(&class.label)),
        );
    }
    if outlook.frames_missing > 0 {
        let want = (outlook.frames + outlook.frames_missing).max(100);
        let hint = if frames_kept <= outlook.frames {
            format!(
                "`max_frames = {want}` under [tuning] in the device's configuration, then run it on the usual scenes"
            )
        } else {
            format!("wait until the device has stored more of the {frames_kept} frames that its configuration allows")
        };
        lack(
            true,
            format!(
                "{} images evaluate the existing classes, {} are needed (a fifth of the {} stored frames is used)",
                outlook.judges, outlook.judges_needed, outlook.frames
            ),
            hint,
        );
    } else if outlook.protects && !outlook.knows_classes && outlook.frames - outlook.frames / 5 < FRAMES_TO_FIT {
        lack(
            false,
            format!(
                "{} frames are stored; with fewer than {}, the class weights are not refitted",
                outlook.frames,
                FRAMES_TO_FIT * 5 / 4
            ),
            "`max_frames = 100` under [tuning] in the device's configuration".to_owned(),
        );
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Bounds = Bounds {
        memory: 500_000_000,
        steps: 1_000,
        seconds: 600,
    };

    fn request(memory: Option<u64>, steps: Option<u32>, seconds: Option<u32>) -> TuneRequest {
        TuneRequest {
            task: "birds".to_owned(),
            memory,
            steps,
            seconds,
        }
    }

    #[test]
    fn a_request_beyond_a_bound_is_refused_with_both_figures_and_the_key() {
        for (asked, named) in [
            (
                request(Some(u64::MAX), None, None),
                ["18446744073709 MB", "500 MB", "`memory`"],
            ),
            (
                request(None, Some(u32::MAX), None),
                ["4294967295 steps", "1000", "`steps`"],
            ),
            (request(None, None, Some(601)), ["601 s", "600 s", "`seconds`"]),
        ] {
            let failure = OWN.grant(&asked).unwrap_err();
            assert_eq!(failure.code, FailureCode::BUDGET);
            let text = failure.to_string();
            assert!(named.iter().all(|named| text.contains(named)), "{text}");
        }
    }

    #[test]
    fn an_empty_request_stays_within_the_bounds() {
        let granted = OWN.grant(&request(None, None, None)).unwrap();
        assert_eq!((granted.memory, granted.steps, granted.seconds), (MEMORY, 100, 600));
        let small = Bounds {
            memory: 100_000_000,
            steps: 10,
            ..OWN
        };
        let granted = small.grant(&request(None, None, None)).unwrap();
        assert_eq!((granted.memory, granted.steps), (100_000_000, 10));
        assert_eq!(
            OWN.grant(&request(Some(OWN.memory), Some(7), Some(9))).unwrap().seconds,
            9
        );
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(physical_memory().is_some() && machine_memory() > 64 << 20);
    }
}
