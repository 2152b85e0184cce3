//! The digest depends on the frozen graph and on nothing else.

use clr_onnx::{Graph, Op, Tensor};

use crate::{
    round_trip::{everything, further},
    support::{backbone, head, preprocessing, ramp},
};

/// Changing this value means that no existing adapter fits its backbone any more. If that is intended, increase the
/// version of the encoding and announce it.
const PINNED: &str = "32c7154a27c1dfe7b18dc24b204fd7f0bb1e29f4d2dcb52a1505da3a1651f1cb";

/// The same for the operations that were added later.
const PINNED_FURTHER: &str = "5569d8def9d6b43a4d6819e2f451a25026356999450a9d8e70865a5e6339d2ab";

#[test]
fn the_digest_of_a_known_graph_never_changes() {
    assert_eq!(backbone(everything(), None).digest().to_string(), PINNED);
    assert_eq!(backbone(further(), None).digest().to_string(), PINNED_FURTHER);
}

#[test]
fn classifier_labels_preprocessing_and_name_do_not_matter() {
    let plain = backbone(everything(), None);
    let other = backbone(everything(), Some(head(8, 2)))
        .with_labels(vec!["a".into(), "b".into()])
        .unwrap();
    assert_eq!(other.digest(), plain.digest());
    assert_eq!(
        other.with_preprocessing(preprocessing(16)).unwrap().digest(),
        plain.digest()
    );
}

#[test]
fn every_weight_name_and_number_matters() {
    let original = backbone(everything(), None).digest();
    let changed = |change: &dyn Fn(&mut Graph)| {
        let mut graph = everything();
        change(&mut graph);
        backbone(graph, None).digest()
    };
    let bits = |graph: &mut Graph| {
        let Op::Conv(conv) = &mut graph.nodes[2].op else {
            panic!("the stem moved")
        };
        let mut weight = ramp(conv.weight.count());
        weight[0] = f32::from_bits(weight[0].to_bits() + 1);
        conv.weight = Tensor::new(conv.weight.shape(), weight).into();
    };
    let stride = |graph: &mut Graph| {
        let Op::Conv(conv) = &mut graph.nodes[2].op else {
            panic!("the stem moved")
        };
        conv.stride = [2, 2];
    };
    let changes: [&dyn Fn(&mut Graph); 3] = [&bits, &stride, &|graph| graph.nodes[2].name.push('_')];
    let mut digests: Vec<_> = changes.iter().map(|change| changed(change)).collect();
    digests.push(original);
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4);
}
