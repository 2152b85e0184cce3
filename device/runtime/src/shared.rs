//! Inference of several tasks on one image: steps with the same parameters run once.

use crate::{
    Executable, SiteParameters,
    executable::Step,
    inference::Values,
    memory::{Buffer, Lent, Memory as _},
};

impl Executable {
    /// Returns the features `[F]` of a preprocessed image `[C, H, W]` for each task. `tasks` contains each task's parameters of
    /// all sites.
    ///
    /// Two tasks share the pass up to the first site with different parameters. Parameters are the same if they are clones of one
    /// [`SiteParameters`]. A task that only reprograms the last sites has clones of [`Executable::frozen_parameters`] for the
    /// sites before. The features are bit-identical to those of [`Executable::features`] for each task.
    pub fn features_of_tasks(&self, image: &[f32], tasks: &[&[SiteParameters]]) -> Vec<Vec<f32>> {
        let mut features = vec![Vec::new(); tasks.len()];
        if tasks.is_empty() {
            return features;
        }
        let values = self.enter(image, &*self.arena);
        self.run_branch(0, values, &(0..tasks.len()).collect::<Vec<_>>(), tasks, &mut features);
        features
    }

    /// Runs the steps from `start` on for `members`, which have the same values so far.
    fn run_branch(
        &self,
        start: usize,
        mut values: Values<Lent>,
        members: &[usize],
        tasks: &[&[SiteParameters]],
        features: &mut [Vec<f32>],
    ) {
        let memory = &*self.arena;
        let first = tasks[members[0]];
        let differs = |step: &Step| {
            step.convolution().is_some_and(|conv| {
                members
                    .iter()
                    .any(|&task| !tasks[task][conv.site].is_clone_of(&first[conv.site]))
            })
        };
        let rest = &self.steps[start..];
        let fork = start + rest.iter().position(differs).unwrap_or(rest.len());
        self.infer(start..fork, &mut values, first, memory);
        let Some(conv) = self.steps.get(fork).and_then(Step::convolution) else {
            let own = self.take_features(&mut values, memory);
            for &task in members {
                features[task].clone_from(&own);
            }
            return;
        };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &task in members {
            let parameters = &tasks[task][conv.site];
            match groups
                .iter_mut()
                .find(|group| tasks[group[0]][conv.site].is_clone_of(parameters))
            {
                Some(group) => group.push(task),
                None => groups.push(vec![task]),
            }
        }
        let last = groups.pop();
        for group in &groups {
            let copy = |value: &Option<Lent>| {
                value.as_ref().map(|value| {
                    let mut copy = memory.take(value.values().len());
                    copy.values_mut().copy_from_slice(value.values());
                    copy
                })
            };
            let copies = values.iter().map(copy).collect();
            self.run_branch(fork, copies, group, tasks, features);
        }
        if let Some(group) = last {
            self.run_branch(fork, values, &group, tasks, features);
        }
    }
}
