//! Deltas between files of format version 3.

use clr_adapters::{
    Adapter, Encoding, SecretKey, SignerClass, SiteWeights, StepSize,
    delta::{DeltaError, apply, diff},
    encode, sign,
};

use crate::sample::{Random, compact, large, linear, small};

const CAP: usize = 1 << 20;

fn file(adapter: &Adapter) -> Vec<u8> {
    encode(adapter, Encoding::Compact).unwrap()
}

/// Returns the delta, after a check that it reproduces the target.
fn delta(base: &[u8], target: &[u8]) -> Vec<u8> {
    let delta = diff(base, target).expect("smaller than the file");
    assert_eq!(apply(base, &delta, CAP).as_deref(), Ok(target));
    delta
}

/// Moves every `every`th value of the head and of the sites from `first` on by one step.
fn tuned(parent: &Adapter, first: usize, every: usize) -> Adapter {
    let mut adapter = parent.clone();
    adapter.header.revision += 1;
    let step = adapter.header.steps.unwrap().head;
    let mut random = Random(5);
    let mut moved = |values: &mut Vec<f32>, step: StepSize| {
        for value in values.iter_mut().step_by(every) {
            *value = step.value(step.code(*value).unwrap() + (random.next() % 3) as i32 - 1);
        }
    };
    moved(&mut adapter.head.weight, step);
    for site in &mut adapter.sites[first..] {
        let steps = site.steps.unwrap();
        match &mut site.weights {
            SiteWeights::Kernel(values) | SiteWeights::Scale(values) => moved(values, steps.weights),
        }
        moved(&mut site.bias, steps.bias);
    }
    adapter
}

#[test]
fn a_delta_between_any_two_compact_adapters_reproduces_the_target() {
    let parent = compact(&small());
    let mut labels_inserted = parent.clone();
    labels_inserted.header.labels.insert(1, "Wren".into());
    labels_inserted.head.weight.splice(18..18, [0.25; 18]);
    labels_inserted.head.bias.insert(1, 1.0);
    let known = labels_inserted.header.class_features.as_mut().unwrap();
    known.deviations.splice(18..18, [0.0; 18]);
    let mut late = parent.clone();
    late.sites.remove(0);
    let mut finer = parent.clone();
    finer.header.steps.as_mut().unwrap().head = StepSize(-24);
    finer.sites[1].steps.as_mut().unwrap().weights = StepSize(-20);
    let mut files: Vec<_> = [
        &parent,
        &labels_inserted,
        &late,
        &finer,
        &tuned(&parent, 1, 2),
        &compact(&linear()),
    ]
    .map(file)
    .to_vec();
    let key = SecretKey::from_bytes(&[3; 32]);
    files.push(sign(&files[0], SignerClass::Publisher, &key).unwrap());
    files.push(encode(&small(), Encoding::Int8).unwrap());
    files.push(encode(&small(), Encoding::Compact).unwrap());
    for base in &files {
        for target in &files {
            if let Some(delta) = diff(base, target) {
                assert!(delta.len() < target.len());
                assert_eq!(apply(base, &delta, target.len()).as_deref(), Ok(&target[..]));
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sizes of the large adapter, which takes an interpreter minutes")]
fn what_did_not_change_costs_next_to_nothing() {
    let parent = compact(&large());
    let base = file(&parent);
    let mut header = parent.clone();
    header.header.version += 1;
    let bytes = delta(&base, &file(&header)).len();
    assert!(bytes < 200, "{bytes} bytes for a header");
    let mut class = parent.clone();
    class.header.labels.push("one more".into());
    let step = class.header.steps.unwrap().head;
    let row = Random(1)
        .normals(1280, 0.05)
        .into_iter()
        .map(|value| step.nearest(value));
    class.head.weight.extend(row);
    class.head.bias.push(0.5);
    class.header.class_features.as_mut().unwrap().push_class(&[0.25; 1280]);
    let bytes = delta(&base, &file(&class)).len();
    assert!(bytes < 1_700, "{bytes} bytes for a class of noise");
    let bytes = delta(&base, &file(&tuned(&parent, parent.sites.len() - 12, 20))).len();
    assert!(bytes < 2_500, "{bytes} bytes for a twentieth of the late values");
}

#[test]
fn a_flipped_bit_of_a_delta_is_refused_or_changes_nothing() {
    let parent = compact(&small());
    let (base, target) = (file(&parent), file(&tuned(&parent, 0, 3)));
    let mut delta = delta(&base, &target);
    for bit in 0..8 * delta.len() {
        delta[bit / 8] ^= 1 << (bit % 8);
        // Some bits of a compressed stream have no meaning.
        assert!(
            apply(&base, &delta, CAP).is_ok_and(|file| file == target) || apply(&base, &delta, CAP).is_err(),
            "bit {bit}"
        );
        delta[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..delta.len() {
        assert!(apply(&base, &delta[..length], CAP).is_err(), "{length}");
    }
}

#[test]
fn a_base_of_another_version_is_refused() {
    let parent = compact(&small());
    let (base, target) = (file(&parent), file(&tuned(&parent, 0, 3)));
    let mut delta = delta(&base, &target);
    let other = encode(&small(), Encoding::Int8).unwrap();
    delta[5..37].copy_from_slice(&clr_adapters::Digest::of(&other).0);
    assert_eq!(apply(&other, &delta, CAP), Err(DeltaError::Base));
}
