//! Networks with an opaque step: import, training of the sites after it, and classification.

use clr_adapters::{SiteWeights, decode};
use clr_onnx::{Backbone, Op, proto};
use prost::Message as _;

use crate::fixtures::Workbench;

/// Writes the backbone with an error function in place of the clip in the middle.
fn with_an_opaque_step(bench: &Workbench) {
    let mut model = proto::ModelProto::decode(&*std::fs::read(bench.path("backbone.onnx")).unwrap()).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let clips = nodes.iter().filter(|node| node.op_type() == "Clip").count();
    let node = nodes
        .iter_mut()
        .filter(|node| node.op_type() == "Clip")
        .nth(clips / 2)
        .unwrap();
    node.op_type = Some("Erf".to_owned());
    node.input.truncate(1);
    std::fs::write(bench.path("erf.onnx"), model.encode_to_vec()).unwrap();
    bench
        .clr(&["import", "erf.onnx", "-o", "opaque.onnx"])
        .assert()
        .success();
}

#[test]
fn training_covers_the_sites_after_the_last_opaque_step() {
    let bench = Workbench::new();
    with_an_opaque_step(&bench);
    let backbone = Backbone::load(&bench.path("opaque.onnx")).unwrap();
    let nodes = &backbone.graph().nodes;
    let opaque = nodes
        .iter()
        .position(|node| matches!(node.op, Op::Opaque(_)))
        .expect("an opaque step");
    for recipe in ["linear", "bn", "clr"] {
        let out = format!("{recipe}.clr");
        let arguments = [
            "train",
            "-b",
            "opaque.onnx",
            "data",
            "-o",
            &out,
            "--recipe",
            recipe,
            "--epochs",
            "1",
        ];
        let output = bench.clr(&arguments).assert().success().get_output().clone();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let trains = recipe != "linear";
        assert_eq!(log.contains("before an opaque step"), trains, "{log}");
        assert_eq!(
            log.contains("epoch 1/1") && log.contains("training loss"),
            trains,
            "{log}"
        );
        bench
            .clr(&["eval", "-b", "opaque.onnx", "-a", &out, "data", "--split", "all"])
            .assert()
            .success();
    }
    let adapter = decode(&std::fs::read(bench.path("clr.clr")).unwrap()).unwrap().adapter;
    let adapter = clr_onnx::with_all_sites(&backbone, &adapter).into_owned();
    let mut before = 0;
    for site in &adapter.sites {
        let SiteWeights::Kernel(kernels) = &site.weights else {
            continue;
        };
        let info = backbone
            .sites()
            .iter()
            .find(|info| Some(&info.name) == site.name.as_ref())
            .unwrap();
        if info.conv < opaque {
            // Unchanged: only the centre is not zero.
            let identity = kernels
                .chunks(9)
                .all(|kernel| (0..9).all(|tap| tap == 4 || kernel[tap] == 0.0));
            assert!(identity, "{} is trained", info.name);
            before += 1;
        }
    }
    assert!(before > 3, "{before} sites before the step");
}
