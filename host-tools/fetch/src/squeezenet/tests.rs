//! `SqueezeNet` 1.1 with hashed weights, in a pickle as Python writes it, against PyTorch.

use clr_engine::{Engine, EngineOptions};

use super::*;

/// Returns the values of `hashed` in `tests/tools/squeezenet_reference.py`.
fn hashed(count: usize, seed: u64, scale: f32) -> Vec<f32> {
    let value = |index: usize| {
        let mut x = (index as u64 * 2_654_435_761 + seed * 40_503) & 0xffff_ffff;
        x ^= x >> 15;
        x = (x * 0x85eb_ca6b) & 0xffff_ffff;
        x ^= x >> 13;
        ((x >> 8) as f32 / (1 << 24) as f32 - 0.5) * scale
    };
    (0..count).map(value).collect()
}

/// Returns the convolutions' names with the shapes of their kernels, in the order of the network.
fn convolutions() -> Vec<(String, [usize; 4])> {
    let mut found = vec![("conv1".to_owned(), [3, 3, 3, 64])];
    let mut channels = 64;
    for [number, squeezed, expanded] in FIRES {
        found.push((format!("fire{number}/squeeze1x1"), [1, 1, channels, squeezed]));
        found.push((format!("fire{number}/expand1x1"), [1, 1, squeezed, expanded]));
        found.push((format!("fire{number}/expand3x3"), [3, 3, squeezed, expanded]));
        channels = 2 * expanded;
    }
    found.push(("conv10".to_owned(), [1, 1, channels, CLASSES]));
    found
}

fn put_text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

/// Appends an array as `NumPy` 1.26 does with protocol 3, without the memo.
fn put_array(pickle: &mut Vec<u8>, shape: &[usize], values: &[f32]) {
    pickle.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01(");
    for &side in shape {
        pickle.push(b'M');
        pickle.extend((side as u16).to_le_bytes());
    }
    pickle.extend(b"tcnumpy\ndtype\n");
    put_text(pickle, "f4");
    pickle.extend(b"K\0K\x01\x87R(K\x03");
    put_text(pickle, "<");
    pickle.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89B");
    pickle.extend((4 * values.len() as u32).to_le_bytes());
    pickle.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    pickle.extend(b"tb");
}

/// Returns the pickle of `convolutions`: a dictionary of `[kernel, bias]`.
fn pickle(convolutions: &[(String, [usize; 4])]) -> Vec<u8> {
    let mut pickle = b"\x80\x03}(".to_vec();
    for (index, (name, shape)) in convolutions.iter().enumerate() {
        let scale = 4.0 / (shape[..3].iter().product::<usize>() as f32).sqrt();
        put_text(&mut pickle, name);
        pickle.extend(b"](");
        let seed = 2 * index as u64;
        put_array(&mut pickle, shape, &hashed(shape.iter().product(), seed, scale));
        put_array(&mut pickle, &shape[3..], &hashed(shape[3], seed + 1, 0.1));
        pickle.push(b'e');
    }
    pickle.extend(b"u.");
    pickle
}

#[test]
fn logits_are_those_of_pytorch_at_an_even_and_an_odd_size() {
    // `python tests/tools/squeezenet_reference.py`
    let expected = [
        (
            96,
            [
                -4.795_83, 5.299_06, -1.073_23, -3.230_71, -0.876_32, -0.226_77, 2.297_69, 0.853_15,
            ],
        ),
        (
            227,
            [
                -5.948_16, 6.769_54, -1.699_96, -4.021_98, -0.407_4, 0.730_21, 4.077_2, 1.014_58,
            ],
        ),
    ];
    let pickle = pickle(&convolutions());
    for (size, expected) in expected {
        let preprocessing = Preprocessing {
            height: size,
            width: size,
            ..preprocessing()
        };
        let backbone = backbone("squeezenet", &pickle, "ndf", None).unwrap();
        let backbone = backbone.with_preprocessing(preprocessing).unwrap();
        let original = backbone.original_adapter().unwrap();
        let engine = Engine::new(backbone, EngineOptions::default()).unwrap();
        let adapter = engine.prepare(&original).unwrap();
        let image = hashed(3 * (size * size) as usize, 99, 200.0);
        let logits = engine.logits(&adapter, &image).unwrap();
        for (&got, expected) in logits.iter().step_by(CLASSES / 8).zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{size}: {got}, PyTorch {expected}");
        }
    }
}

#[test]
fn images_are_read_as_bgr_without_division() {
    let backbone = backbone("squeezenet", &pickle(&convolutions()), "ndf", None).unwrap();
    assert_eq!(Preset::of(backbone.preprocessing()), Some(Preset::Caffe));
    assert_eq!((backbone.sites().len(), backbone.feature_count()), (25, FEATURES));
}

#[test]
fn a_missing_array_and_a_wrong_shape_are_named() {
    let all = convolutions();
    let error = |convolutions: &[(String, [usize; 4])]| {
        backbone("squeezenet", &pickle(convolutions), "ndf", None)
            .unwrap_err()
            .to_string()
    };
    let missing = error(&all[..all.len() - 1]);
    assert!(
        missing.contains("`conv10.0`: expected f4 [1, 1, 512, 1000], got nothing"),
        "{missing}"
    );
    let mut swapped = all;
    swapped[1].1 = [1, 1, 16, 64];
    let wrong = error(&swapped);
    let expected = "`fire2/squeeze1x1.0`: expected f4 [1, 1, 64, 16], got f4 [1, 1, 16, 64]\nhint: ";
    assert!(wrong.contains(expected), "{wrong}");
}
