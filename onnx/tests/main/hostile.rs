//! Arbitrary bytes give an error or a backbone, but no panic and no allocation that is too large for the file.

use clr_onnx::{Backbone, proto::ModelProto};
use proptest::prelude::*;
use prost::Message as _;

use crate::{
    channels_last,
    round_trip::everything,
    support::{Model, backbone, head, int, ramp},
};

fn victim() -> Vec<u8> {
    backbone(everything(), Some(head(8, 3))).to_bytes()
}

/// Returns a model whose tensors change their layout and whose constants are computed.
fn rearranged() -> ModelProto {
    channels_last::network(true)
        .floats("m", &[1, 8, 3], &ramp(24))
        .integers("to", &[2], &[-1, 3])
        .integers("a", &[1], &[0])
        .integers("z", &[1], &[-1])
        .integers("e", &[1], &[i64::MIN])
        .node("Transpose", &["m"], "mt", &[])
        .node("Slice", &["mt", "z", "e", "a", "z"], "ms", &[])
        .node("Mul", &["ms", "ms"], "mm", &[])
        .node("Transpose", &["mm"], "mb", &[])
        .node("Reshape", &["mb", "to"], "k", &[])
        .node("MatMul", &["f", "k"], "y", &[])
        .output("y")
        .proto()
}

#[test]
fn the_rearranged_model_is_valid() {
    assert!(Backbone::from_bytes(&rearranged().encode_to_vec(), "sound.onnx").is_ok());
}

/// Reads the bytes, and uses the resulting backbone.
fn survive(bytes: &[u8]) {
    if let Ok(backbone) = Backbone::from_bytes(bytes, "hostile.onnx") {
        let _ = backbone.to_bytes();
        let _ = backbone.value_shapes(3, 5);
    }
}

#[test]
fn every_truncation_is_survived() {
    let bytes = victim();
    (0..bytes.len()).step_by(7).for_each(|length| survive(&bytes[..length]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    #[test]
    fn random_changes_of_a_model_are_survived(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = victim();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        survive(&bytes);
    }

    #[test]
    fn random_changes_of_functions_and_sparse_constants_are_survived(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = crate::functions::with_a_sparse_constant();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        survive(&bytes);
    }

    /// Changing numbers keeps the file well-formed and therefore reaches deeper than changing bytes.
    #[test]
    fn random_numbers_in_a_well_formed_model_are_survived(
        node in any::<proptest::sample::Index>(), attribute in any::<proptest::sample::Index>(), place in any::<proptest::sample::Index>(),
        constant in any::<proptest::sample::Index>(), dims in proptest::collection::vec(prop_oneof![-2_i64..9, any::<i64>()], 0..5),
        number in prop_oneof![-3_i64..9, Just(i64::MAX), Just(i64::MIN), any::<i64>()], swap in any::<proptest::sample::Index>(),
        kind in 0..4, moved in any::<bool>(),
    ) {
        let mut model = if moved { rearranged() } else { ModelProto::decode(&victim()[..]).unwrap() };
        let graph = model.graph.as_mut().unwrap();
        let count = graph.node.len();
        match kind {
            0 => {
                let node = &mut graph.node[node.index(count)];
                if !node.attribute.is_empty() {
                    let index = attribute.index(node.attribute.len());
                    let attribute = &mut node.attribute[index];
                    attribute.i = attribute.i.map(|_| number);
                    if !attribute.ints.is_empty() {
                        let index = place.index(attribute.ints.len());
                        attribute.ints[index] = number;
                    }
                }
            }
            1 => {
                let index = constant.index(graph.initializer.len());
                let tensor = &mut graph.initializer[index];
                // Sizes, axes and starts are numbers too.
                if tensor.int64_data.is_empty() || number % 2 == 0 {
                    tensor.dims = dims;
                } else {
                    let index = place.index(tensor.int64_data.len());
                    tensor.int64_data[index] = number;
                }
            }
            2 => {
                let other = graph.node[swap.index(count)].op_type.clone();
                graph.node[node.index(count)].op_type = other;
            }
            _ => {
                let other = graph.node[swap.index(count)].output[0].clone();
                let node = &mut graph.node[node.index(count)];
                if !node.input.is_empty() {
                    let index = place.index(node.input.len());
                    node.input[index] = other;
                }
            }
        }
        survive(&model.encode_to_vec());
    }
}

#[test]
fn a_file_of_countless_tiny_messages_is_refused_before_it_is_decoded() {
    // Six million empty nodes: 12 MB of bytes, but more than a gigabyte of decoded nodes.
    let nodes = [0x0a, 0x00].repeat(6_000_000);
    let mut bytes = vec![0x3a];
    prost::encode_length_delimiter(nodes.len(), &mut bytes).unwrap();
    bytes.extend(nodes);
    let error = Backbone::from_bytes(&bytes, "hostile.onnx").unwrap_err().to_string();
    assert!(error.contains("fields: at most"), "{error}");
}

#[test]
fn windows_and_sizes_beyond_their_caps_are_refused() {
    for attribute in ["group", "dilations", "strides", "pads"] {
        let mut value = int(attribute, i64::MAX);
        if attribute != "group" {
            value.i = None;
            value.ints = vec![i64::MAX; if attribute == "pads" { 4 } else { 2 }];
        }
        let model = Model::new(13)
            .floats("k", &[2, 3, 2, 2], &ramp(24))
            .node("Conv", &["x", "k"], "y", &[value])
            .output("y");
        assert!(model.load().is_err(), "{attribute}");
    }
}

#[test]
fn many_axes_and_long_lists_take_bounded_memory() {
    let ones = vec![1; 1 << 15];
    let long = || Model::new(13).conv().integers("ones", &[1 << 15], &ones);
    let text = long().node("Reshape", &["c", "ones"], "y", &[]).output("y").error();
    assert!(text.contains("node `y`"), "{text}");
    let axes = (0..1 << 15).collect::<Vec<i64>>();
    let text = Model::new(13)
        .conv()
        .integers("axes", &[1 << 15], &axes)
        .node("Unsqueeze", &["c", "axes"], "y", &[])
        .output("y")
        .error();
    assert!(text.contains("node `y`"), "{text}");
    // A thousand lists of 32,768 integers, from a file that contains only one.
    let model = (0..1000).fold(long(), |model, index| {
        let name = |index: usize| {
            if index == 0 {
                "ones".to_owned()
            } else {
                format!("i{index}")
            }
        };
        model.node("Identity", &[&name(index)], &name(index + 1), &[])
    });
    let text = model.node("Reshape", &["c", "i1000"], "y", &[]).output("y").error();
    assert!(text.contains("more values than the file accounts for"), "{text}");
}
