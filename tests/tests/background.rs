//! `clr background`: tasks trained with a background are chosen against it, and mistakes are told.

use clr_adapters::{Background, OwnScores, decode};

use crate::fixtures::{Workbench, image, write_images};

/// Writes folders of images of different kinds and fits the background to them.
fn workbench() -> Workbench {
    let bench = Workbench::new();
    for kind in 0..4_u32 {
        let folder = bench.path(&format!("kinds/{kind}"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..24 {
            image(kind, 500 + number)
                .save(folder.join(format!("{number}.png")))
                .unwrap();
        }
    }
    let kinds = ["kinds/0", "kinds/1", "kinds/2", "kinds/3"];
    let arguments = [&["background", "--backbone", "backbone.onnx"], &kinds[..], &["--json"]].concat();
    let output = bench.clr(&arguments).assert().success().get_output().stdout.clone();
    let document: serde_json::Value = serde_json::from_slice(&output).unwrap();
    crate::promises::check_document("background", &document);
    assert_eq!(document["background"], "backbone.background");
    let background = Background::decode(&std::fs::read(bench.path("backbone.background")).unwrap()).unwrap();
    assert_eq!(document["id"], background.id().to_string());
    bench
}

#[test]
fn tasks_trained_with_a_background_are_chosen_against_it() {
    let bench = workbench();
    write_images(&bench.path("more"), 3, 12, 9);
    let train = |data: &str| {
        let arguments = ["train", "--backbone", "backbone.onnx", data, "--recipe", "linear"];
        bench.clr(&arguments).assert().success();
        decode(&std::fs::read(bench.path(&format!("{data}.clr"))).unwrap()).unwrap()
    };
    let (data, more) = (train("data"), train("more"));
    let background = Background::decode(&std::fs::read(bench.path("backbone.background")).unwrap()).unwrap();
    for file in [&data, &more] {
        let profile = file.adapter.header.profile.as_ref().unwrap();
        let OwnScores::Ratios(ratios) = &profile.own_scores else {
            panic!("{:?}", profile.own_scores)
        };
        assert_eq!(ratios.background, background.id());
        assert!(ratios.head.is_some() && ratios.quantile(0.5) > ratios.quantile(0.05));
    }
    let eval = [
        "eval",
        "--backbone",
        "backbone.onnx",
        "--auto",
        "--adapter",
        "data.clr",
        "--adapter",
        "more.clr",
    ];
    let eval = [&eval[..], &["data", "more", "--split", "val", "--json"]].concat();
    let output = bench.clr(&eval).assert().success().get_output().stdout.clone();
    let document: serde_json::Value = serde_json::from_slice(&output).unwrap();
    crate::promises::check_document("eval-auto", &document);
    assert_eq!(document["tasks"].as_array().unwrap().len(), 2);

    // Without its background, the adapter still serves, but is not chosen.
    std::fs::remove_file(bench.path("backbone.background")).unwrap();
    let error = String::from_utf8(bench.clr(&eval).assert().failure().get_output().stderr.clone()).unwrap();
    let id = background.id().to_string();
    assert!(
        error.contains(&format!("was trained with background {id}")) && error.contains("no background"),
        "{error}"
    );
    assert!(error.contains("hint: "), "{error}");
}

#[test]
fn too_few_kinds_or_images_and_a_foreign_background_are_refused() {
    let bench = workbench();
    let refused = |arguments: &[&str]| {
        let output = bench.clr(arguments).assert().failure().get_output().stderr.clone();
        let error = String::from_utf8(output).unwrap();
        assert!(error.contains("hint: "), "{error}");
        error
    };
    let fit = ["background", "--backbone", "backbone.onnx"];
    assert!(refused(&[&fit[..], &["kinds/0", "kinds/1"]].concat()).contains("2 folders, expected at least 3"));
    std::fs::create_dir(bench.path("kinds/empty")).unwrap();
    let error = refused(&[&fit[..], &["kinds/0", "kinds/1", "kinds/empty"]].concat());
    assert!(
        error.contains("kinds/empty") && error.contains("at least 20"),
        "{error}"
    );

    let other = crate::fixtures::backbone(clr_onnx::Architecture::EfficientNetLite0, 2);
    other.save(&bench.path("other.onnx")).unwrap();
    std::fs::copy(bench.path("backbone.background"), bench.path("other.background")).unwrap();
    let error = refused(&["inspect", "other.onnx"]);
    assert!(
        error.contains("other.background") && error.contains("belongs to the backbone"),
        "{error}"
    );
}
