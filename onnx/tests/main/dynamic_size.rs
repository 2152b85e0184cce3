//! The caller's size determines an open height or width.

use clr_onnx::{Backbone, ImportError, ImportOptions, ReadOptions, import_bytes};

use crate::support::{Model, info, int, ints, ramp};

/// Returns a model for images of `dims`, followed by the shape arithmetic of a flattening.
fn model(dims: &[Option<i64>]) -> Model {
    let mut model = Model::bare(13);
    model.graph.input.push(info("x", dims));
    model
        .conv()
        .node("Shape", &["c"], "shape", &[])
        .integers("zero", &[1], &[0])
        .node("Gather", &["shape", "zero"], "batch", &[int("axis", 0)])
        .integers("rest", &[1], &[-1])
        .node("Concat", &["batch", "rest"], "target", &[int("axis", 0)])
        .node("Reshape", &["c", "target"], "f", &[])
        .floats("d", &[32, 3], &ramp(96))
        .node("MatMul", &["f", "d"], "y", &[])
        .output("y")
}

fn read(bytes: &[u8], size: Option<[u32; 2]>) -> Result<Backbone, ImportError> {
    let options = ImportOptions::default().with_onnx(ReadOptions::default().with_size(size));
    import_bytes(bytes, "some net.onnx", &options)
}

#[test]
fn every_form_of_an_open_side_is_set_by_the_size() {
    let fixed = read(&model(&[None, Some(3), Some(4), Some(4)]).bytes(), None).unwrap();
    let open: [&[Option<i64>]; 6] = [
        &[None, Some(3), None, None],
        &[Some(1), Some(3), Some(-1), Some(-1)],
        &[Some(-1), Some(3), Some(0), Some(0)],
        &[None, Some(3), Some(4), None],
        &[None, Some(3), None, Some(4)],
        &[None, None, None, None],
    ];
    for dims in open {
        let bytes = model(dims).bytes();
        let backbone = read(&bytes, Some([4, 4])).unwrap_or_else(|error| panic!("{dims:?}: {error}"));
        assert_eq!(backbone.digest(), fixed.digest(), "{dims:?}");
        assert_eq!(
            [backbone.preprocessing().height, backbone.preprocessing().width],
            [4, 4]
        );
        let text = read(&bytes, None).unwrap_err().to_string();
        assert!(
            text.contains("height or width is dynamic") && text.contains("hint: "),
            "{dims:?}: {text}"
        );
        assert!(text.contains("clr import 'some net.onnx' --size "), "{text}");
    }
}

#[test]
fn an_input_without_any_shape_takes_its_channels_from_the_first_convolution() {
    let mut model = model(&[]);
    model.image_type().shape = None;
    let bytes = model.bytes();
    assert_eq!(read(&bytes, Some([4, 4])).unwrap().classifier().unwrap().classes(), 3);
    assert!(read(&bytes, None).unwrap_err().to_string().contains("of unknown shape"));
}

#[test]
fn the_hint_keeps_the_side_that_the_file_fixes() {
    let text = read(&model(&[None, Some(3), None, Some(48)]).bytes(), None)
        .unwrap_err()
        .to_string();
    assert!(text.contains("--size 48"), "{text}");
}

#[test]
fn a_size_that_the_weights_do_not_fit_is_refused() {
    let bytes = model(&[None, Some(3), None, None]).bytes();
    let text = read(&bytes, Some([5, 4])).unwrap_err().to_string();
    assert!(text.contains("32") && text.contains("40"), "{text}");
}

#[test]
fn a_fixed_size_in_a_reshape_is_kept() {
    let mut fixed = Model::bare(13);
    fixed.graph.input.push(info("x", &[Some(1), Some(3), None, None]));
    let fixed = fixed
        .conv()
        .node(
            "MaxPool",
            &["c"],
            "p",
            &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
        )
        .integers("target", &[2], &[1, 8])
        .node("Reshape", &["p", "target"], "y", &[])
        .output("y");
    let bytes = fixed.bytes();
    assert_eq!(read(&bytes, Some([4, 4])).unwrap().feature_count(), 8);
    assert!(read(&bytes, Some([8, 8])).unwrap_err().to_string().contains("Reshape"));
}
