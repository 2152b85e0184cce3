//! Properties of quantised backbones, on small networks with seeded weights and generated images.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use clr_adapters::Preprocessing;
use clr_onnx::{
    Activation, Architecture, Backbone, Conv, Graph, Node, Op, Padding, Quantiser, RgbImage, Tensor, ValueId,
    seeded_backbone,
};

use crate::{
    Images, QuantisationError, QuantiseOptions, Quantised, Selection,
    calibrate::Calibration,
    evaluate::{features, relative_error},
    quantise,
};

const SIDE: u32 = 48;

/// Returns images of noise over a colour gradient.
fn pictures(count: u32, seed: u32) -> Vec<RgbImage> {
    let picture = |index: u32| {
        let mut state = (seed * 1000 + index).wrapping_mul(0x9e37_79b9) | 1;
        RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let mut noise = |base: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((base + (state >> 24) / 2) % 256) as u8
            };
            image::Rgb([noise(x * index), noise(y * 5), noise((x + y) * 2 + 40 * index)])
        })
    };
    (0..count).map(picture).collect()
}

fn images(backbone: &Backbone) -> Images {
    let [calibration, held_out] = [pictures(16, 1), pictures(6, 2)];
    let inputs = [backbone.preprocessing().clone()];
    Images::new(
        calibration.iter().map(Into::into),
        held_out.iter().map(Into::into),
        &inputs,
    )
}

/// Returns the backbone with a small input.
fn small(backbone: Backbone) -> Backbone {
    let preprocessing = Preprocessing {
        height: SIDE,
        width: SIDE,
        ..backbone.preprocessing().clone()
    };
    backbone.with_preprocessing(preprocessing).unwrap()
}

fn lite0() -> Backbone {
    small(seeded_backbone(Architecture::EfficientNetLite0, 1, 10))
}

fn run(backbone: &Backbone, options: &QuantiseOptions) -> Result<Quantised, QuantisationError> {
    quantise(backbone, &images(backbone), options, &mut |_| ())
}

/// Returns a network of convolutions with swish. The first channel of the layers in `outliers` is 3,000 times as large as the
/// others, and the next layer divides by this factor, so that one scale for the value does not suffice.
fn swish(outliers: &[usize]) -> Backbone {
    const CHANNELS: usize = 8;
    const LAYERS: usize = 8;
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut nodes = Vec::new();
    for layer in 0..LAYERS {
        let inputs = if layer == 0 { 3 } else { CHANNELS };
        let mut weight: Vec<f32> = (0..CHANNELS * inputs * 9).map(|_| number()).collect();
        for (at, weight) in weight.iter_mut().enumerate() {
            let (output, input) = (at / (inputs * 9), at / 9 % inputs);
            if outliers.contains(&layer) && output == 0 {
                *weight *= 3_000.0;
            }
            if layer > 0 && outliers.contains(&(layer - 1)) && input == 0 {
                *weight /= 3_000.0;
            }
        }
        let conv = Conv {
            weight: Tensor::new([CHANNELS, inputs, 3, 3], weight).into(),
            bias: Some(Tensor::new([CHANNELS], vec![0.1; CHANNELS])),
            stride: [1; 2],
            dilation: [1; 2],
            group: 1,
            padding: Padding::Explicit([1; 4]),
        };
        nodes.push((format!("conv{layer}"), Op::Conv(conv)));
        nodes.push((format!("swish{layer}"), Op::Activation(Activation::Silu)));
    }
    nodes.push(("mean".to_owned(), Op::GlobalAveragePool));
    nodes.push(("flatten".to_owned(), Op::Flatten));
    let nodes: Vec<Node> = nodes
        .into_iter()
        .enumerate()
        .map(|(index, (name, op))| Node {
            name,
            op,
            inputs: vec![ValueId(index)],
        })
        .collect();
    let graph = Graph {
        input_channels: 3,
        features: ValueId(nodes.len()),
        nodes,
    };
    let preprocessing = Backbone::default_preprocessing(SIDE, SIDE);
    Backbone::new("swish", graph, None, None, preprocessing).unwrap()
}

#[test]
fn corrected_biases_reduce_the_error_of_the_features() {
    let quantised = run(&lite0(), &QuantiseOptions::default()).unwrap();
    let correction = quantised.correction;
    assert!(correction.after < 0.8 * correction.before, "{correction:?}");
    assert!(
        quantised.loss.error < 0.25 && quantised.loss.images == 6,
        "{:?}",
        quantised.loss
    );
    let [integer, all] = quantised.convolutions;
    assert!(integer == all && quantised.float.is_empty() && quantised.images == [16, 6]);
    let correction = run(&swish(&[]), &QuantiseOptions::default()).unwrap().correction;
    assert!(correction.after < 0.5 * correction.before, "{correction:?}");
}

#[test]
fn the_same_images_give_the_same_bytes_with_any_number_of_threads() {
    let backbone = lite0();
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&backbone, &QuantiseOptions::default()).unwrap().backbone.to_bytes())
    });
    assert!(one == three);
}

#[test]
fn ranges_contain_all_observed_values() {
    let backbone = lite0();
    let images = images(&backbone);
    let quantiser = Quantiser::new(&backbone, &BTreeSet::new()).unwrap();
    let calibration = Calibration::new(quantiser.folded(), &images.sizes, &images.calibration, &mut |_| ()).unwrap();
    let grids = calibration.grids(&quantiser);
    for (value, grid) in quantiser.places().iter().zip(&grids) {
        let ([low, high], [least, largest]) = (calibration.statistics.ranges[value.0], grid.range());
        let half = 0.501 * grid.scale;
        assert!(
            low >= least - half && high <= largest + half,
            "{value:?}: {low} {high} {grid:?}"
        );
    }
    let clipped = |inputs, least| calibration.clipped(&quantiser, &grids, inputs, least).unwrap();
    assert_eq!(clipped(&images.calibration, 0.0), []);
    // Narrow grids clip.
    let narrow: Vec<_> = grids
        .iter()
        .map(|grid| clr_onnx::Quantisation {
            scale: grid.scale / 4.0,
            ..*grid
        })
        .collect();
    assert!(
        !calibration
            .clipped(&quantiser, &narrow, &images.calibration, 0.01)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn bytes_compute_what_the_float_form_that_was_corrected_computes() {
    let backbone = lite0();
    let images = images(&backbone);
    let quantised = run(&backbone, &QuantiseOptions::default()).unwrap().backbone;
    let bytes = features(&quantised, &images.sizes, &images.held_out).unwrap();
    let observable = crate::observe::Observable::new(&quantised, &images.sizes).unwrap();
    let float = observable.statistics(&images.held_out, &mut |_| ()).features;
    let difference = relative_error(&float, &bytes);
    assert!(difference < 0.02, "{difference}");
}

#[test]
fn a_quantised_backbone_is_refused() {
    let backbone = lite0();
    let quantised = run(&backbone, &QuantiseOptions::default()).unwrap().backbone;
    let error = run(&quantised, &QuantiseOptions::default()).unwrap_err();
    assert!(matches!(error, QuantisationError::Quantised { .. }), "{error}");
    assert!(error.to_string().contains("hint: "), "{error}");
}

#[test]
fn a_file_is_less_than_three_tenths_of_the_float_one_and_reads_back_bit_for_bit() {
    let backbone = small(seeded_backbone(Architecture::EfficientNetLite0, 2, 1000));
    let quantised = run(&backbone, &QuantiseOptions::default()).unwrap().backbone;
    let (bytes, float) = (quantised.to_bytes(), backbone.to_bytes());
    assert!(
        10 * bytes.len() <= 3 * float.len(),
        "{} of {}",
        bytes.len(),
        float.len()
    );
    let read = Backbone::from_bytes(&bytes, "bytes").unwrap();
    assert!(read == quantised && read.digest() == quantised.digest());
}

#[test]
fn a_network_that_loses_too_much_is_refused_with_its_loss_and_written_by_force() {
    let backbone = swish(&[0, 1, 2, 3, 4, 5, 6]);
    let error = run(&backbone, &QuantiseOptions::default()).unwrap_err();
    let QuantisationError::Loss {
        loss,
        max_float,
        convolutions,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(loss.error > 0.25 && (*max_float, *convolutions) == (2, 8), "{error}");
    assert!(error.to_string().contains(&format!("{:.3}", loss.error)), "{error}");
    assert!(error.to_string().contains("--force"), "{error}");
    let forced = run(&backbone, &QuantiseOptions::default().with_force(true)).unwrap();
    assert_eq!(forced.loss, *loss);
}

#[test]
fn the_layers_that_lose_most_are_returned_to_float() {
    let backbone = swish(&[3]);
    let without = QuantiseOptions::default().with_max_float(0.0);
    let error = run(&backbone, &without).unwrap_err();
    assert!(matches!(error, QuantisationError::Loss { .. }), "{error}");
    let quantised = run(&backbone, &QuantiseOptions::default()).unwrap();
    assert!(quantised.loss.error <= 0.25, "{:?}", quantised.loss);
    assert!(quantised.float.contains(&"conv4".to_owned()), "{:?}", quantised.float);
    assert_eq!(quantised.convolutions[0], 8 - quantised.float.len());
}

/// Writes one image for each path.
fn write(root: &Path, files: &[String]) {
    let picture = pictures(1, 3).remove(0);
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    }
}

fn names(root: &Path, selection: &Selection) -> Vec<String> {
    let files = selection.calibration.iter().chain(&selection.held_out);
    let mut names: Vec<String> = files
        .map(|file| file.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn test_images_are_never_drawn() {
    for layout in [
        "{split}/{class}/{number}.png",
        "{class}/{split}/{number}.png",
        "{split}/{number}.png",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = |split: &str, class: &str, number: usize| {
            let file = layout.replace("{split}", split).replace("{class}", class);
            file.replace("{number}", &format!("{class}{number}"))
        };
        for split in ["train", "test", "val"] {
            let files: Vec<String> = ["cat", "dog"]
                .iter()
                .flat_map(|class| (0..8).map(|number| file(split, class, number)))
                .collect();
            write(folder.path(), &files);
        }
        let folders = [folder.path().to_owned()];
        let selection = Selection::draw(&folders, 200, 0, &clr_training::LayoutOptions::default()).unwrap();
        let names = names(folder.path(), &selection);
        assert_eq!(names.len(), 16, "{layout}");
        assert!(names.iter().all(|name| name.contains("train/")), "{names:?}");
        std::fs::remove_dir_all(folder.path().join("train")).ok();
        for class in ["cat", "dog"] {
            std::fs::remove_dir_all(folder.path().join(class).join("train")).ok();
        }
        let error = Selection::draw(&folders, 200, 0, &clr_training::LayoutOptions::default()).unwrap_err();
        assert!(
            matches!(error, QuantisationError::NoTraining { .. }),
            "{layout}: {error}"
        );
    }
}

#[test]
fn images_are_drawn_evenly_from_folders_and_depend_on_the_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |folder: &str, number: usize| format!("{folder}/{number:03}.png");
    write(
        folder.path(),
        &(0..40).map(|number| file("a", number)).collect::<Vec<_>>(),
    );
    write(
        folder.path(),
        &(0..5).map(|number| file("b", number)).collect::<Vec<_>>(),
    );
    let folders: Vec<PathBuf> = ["a", "b"].map(|name| folder.path().join(name)).into();
    let draw = |seed| Selection::draw(&folders, 16, seed, &clr_training::LayoutOptions::default()).unwrap();
    let selection = draw(0);
    let names = names(folder.path(), &selection);
    let mut counts = BTreeMap::new();
    for name in &names {
        *counts.entry(name.chars().next().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([('a', 15), ('b', 5)]));
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        20,
        "an image was drawn twice"
    );
    assert_eq!([selection.calibration.len(), selection.held_out.len()], [16, 4]);
    assert_eq!(draw(0), selection);
    assert_ne!(draw(1), selection);
    let few = Selection::draw(&folders[1..], 16, 0, &clr_training::LayoutOptions::default()).unwrap_err();
    assert!(matches!(few, QuantisationError::FewImages { got: 5, .. }), "{few}");
}

#[test]
fn files_that_are_no_images_are_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &(0..12).map(|number| format!("{number}.png")).collect::<Vec<_>>(),
    );
    let mut png = std::fs::read(folder.path().join("3.png")).unwrap();
    png.truncate(png.len() / 2);
    std::fs::write(folder.path().join("3.png"), png).unwrap();
    let folders = [folder.path().to_owned()];
    let selection = Selection::draw(&folders, 200, 0, &clr_training::LayoutOptions::default()).unwrap();
    let inputs = [lite0().preprocessing().clone()];
    let images = Images::read(&selection, &inputs, &mut |_| ()).unwrap();
    assert_eq!(images.counts().iter().sum::<usize>(), 11);
    assert!(images.unreadable.len() == 1 && images.unreadable[0].path.ends_with("3.png"));
}
