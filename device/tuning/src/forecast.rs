//! Forecast of whether a run's result can be promoted, from the numbers of images.

use clr_adapters::Adapter;

use crate::{
    Parent,
    examples::{Example, split_examples},
    promote::ENOUGH,
    tune::has_steps,
};

/// A class with labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassForecast {
    /// The class.
    pub label: String,
    /// Number of its images.
    pub images: usize,
    /// Number of these images that are held out.
    pub held_out: usize,
    /// Whether the run would train the class.
    pub learned: bool,
}

/// Forecast of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Classes with labelled images, by label.
    pub classes: Vec<ClassForecast>,
    /// Number of unlabelled frames.
    pub frames: usize,
    /// Whether the adapter has protected classes.
    pub protects: bool,
    /// Whether the adapter has class features, which can replace images of the protected classes.
    pub knows_classes: bool,
    /// Whether the run has steps. Without, it refits class weights against class features.
    pub has_steps: bool,
    /// Number of images that would test the protected classes: held-out frames, held-out labelled images, and canaries.
    /// More images may test them: all frames do if only class weights of the candidate are new.
    pub judges: usize,
    /// Minimum number of images needed to test the protected classes: none with class features.
    pub judges_needed: usize,
    /// Number of frames to store in addition to the existing ones.
    pub frames_missing: usize,
}

/// Counts the images in `list` for a run that starts from `parent`. Suspected positives are included, because they are
/// found only during a run.
pub fn forecast(parent: &Parent, list: Vec<Example>) -> Forecast {
    let labels = &parent.adapter.header.labels;
    let place = |label: &str| labels.iter().position(|known| known == label);
    let is_new = |label: &str| place(label).is_none_or(|class| class >= parent.protected);
    let any_new = list.iter().filter_map(|example| example.label.as_deref()).any(is_new);
    let frames = list.iter().filter(|example| example.label.is_none()).count();
    let has_steps = has_steps(parent, &list);
    let split = split_examples(list);
    let mut classes: Vec<ClassForecast> = Vec::new();
    for (examples, held) in [(&split.training, false), (&split.held_out, true)] {
        for label in examples.iter().filter_map(|example| example.label.as_deref()) {
            let at = classes
                .iter()
                .position(|class| class.label == label)
                .unwrap_or_else(|| {
                    classes.push(ClassForecast {
                        label: label.to_owned(),
                        images: 0,
                        held_out: 0,
                        learned: !any_new || is_new(label),
                    });
                    classes.len() - 1
                });
            classes[at].images += 1;
            classes[at].held_out += usize::from(held);
        }
    }
    classes.sort_by(|a, b| a.label.cmp(&b.label));
    let judges = judges(&parent.adapter, &split.held_out, &classes);
    let protects = parent.protected > 0;
    let knows_classes = protects && any_new && parent.adapter.header.class_features.is_some();
    let judges_needed = if knows_classes { 0 } else { ENOUGH };
    Forecast {
        classes,
        frames,
        protects,
        judges,
        knows_classes,
        has_steps,
        judges_needed,
        // A fifth of the frames is held out.
        frames_missing: if protects {
            5 * judges_needed.saturating_sub(judges)
        } else {
            0
        },
    }
}

fn judges(adapter: &Adapter, held_out: &[Example], classes: &[ClassForecast]) -> usize {
    let old = |example: &&Example| match &example.label {
        None => true,
        Some(label) => classes.iter().any(|class| class.label == *label && !class.learned),
    };
    // Noise says nothing about the classes.
    let canaries = adapter.header.canaries.iter().filter(|canary| canary.seed.is_none());
    held_out.iter().filter(old).count() + canaries.count()
}

#[cfg(test)]
mod tests {
    use clr_adapters::Digest;

    use super::*;

    #[test]
    fn a_fifth_of_each_class_is_held_out_as_in_a_run() {
        let example = |label: Option<&str>, index: u8| Example {
            id: Digest::of(&[index, label.map_or(0, |label| label.len() as u8)]),
            label: label.map(ToOwned::to_owned),
        };
        let mut list: Vec<Example> = (0..10).map(|index| example(Some("robin"), index)).collect();
        list.push(example(Some("one"), 0));
        list.extend((0..20).map(|index| example(None, index)));
        let split = split_examples(list.clone());
        let held = |label: Option<&str>| split.held_out.iter().filter(|e| e.label.as_deref() == label).count();
        assert_eq!((held(Some("robin")), held(Some("one")), held(None)), (2, 0, 4));
    }
}
