//! The rewrite places the correct values after the correct convolution. `tests/tools/onnx_check.py` checks with ONNX
//! Runtime that the models compute the same function.

use clr_adapters::{Adapter, Head, Header, Provenance, Recipe, SiteKind, SiteWeights};
use clr_onnx::{
    Activation, AdapterMismatch, Backbone, BatchNorm, Conv, Graph, HeadPart, Node, Op, Padding, ParameterSource,
    Tensor, ValueId, aligned_sites, check_adapter, export, identity_adapter, merge, proto::GraphProto, reprogram,
    with_all_sites,
};

use crate::{
    round_trip::everything,
    support::{backbone, head, preprocessing},
};

/// Returns a backbone: conv 3×3 (own bias) → norm → `ReLU` → conv 1×1 → norm → conv 1×1 (own bias) → pool.
fn small() -> Backbone {
    let values = |count: usize, offset: f32| {
        (0..count)
            .map(|index| index as f32 * 0.25 + offset)
            .collect::<Vec<f32>>()
    };
    let conv = |kernel: usize, inputs: usize, bias: Option<f32>| {
        let weight = Tensor::new([2, inputs, kernel, kernel], values(2 * inputs * kernel * kernel, -1.0));
        let bias = bias.map(|offset| Tensor::new([2], values(2, offset)));
        Op::Conv(Conv {
            weight: weight.into(),
            bias,
            stride: [1, 1],
            dilation: [1, 1],
            group: 1,
            padding: Padding::SameUpper,
        })
    };
    let norm = || {
        let vector = |offset: f32| Tensor::new([2], values(2, offset));
        Op::BatchNorm(BatchNorm {
            scale: vector(2.0),
            bias: vector(0.5),
            mean: vector(-1.0),
            variance: vector(3.75),
            epsilon: 0.25,
        })
    };
    let ops = [
        ("spatial", conv(3, 3, Some(1.0))),
        ("spatial/norm", norm()),
        ("relu", Op::Activation(Activation::Relu)),
        ("pointwise", conv(1, 2, None)),
        ("pointwise/norm", norm()),
        ("bare", conv(1, 2, Some(2.0))),
        ("pool", Op::GlobalAveragePool),
        ("flat", Op::Flatten),
    ];
    let nodes = ops
        .into_iter()
        .enumerate()
        .map(|(index, (name, op))| Node {
            name: name.into(),
            op,
            inputs: vec![ValueId(index)],
        })
        .collect();
    backbone(
        Graph {
            input_channels: 3,
            nodes,
            features: ValueId(8),
        },
        Some(head(2, 3)),
    )
}

fn identity(backbone: &Backbone, recipe: Recipe) -> Adapter {
    let head = backbone.classifier().unwrap().clone();
    let labels = (0..head.classes()).map(|class| class.to_string()).collect();
    let header = Header::new(
        "task",
        labels,
        clr_adapters::Digest([0; 32]),
        preprocessing(8),
        Provenance::HostTrained,
    );
    identity_adapter(backbone, recipe, head, header)
}

fn constant(graph: &GraphProto, name: &str) -> Vec<f32> {
    let tensor = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name.as_deref() == Some(name))
        .unwrap_or_else(|| panic!("no constant {name}"));
    tensor
        .raw_data
        .as_ref()
        .unwrap()
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

fn inputs(graph: &GraphProto) -> Vec<&str> {
    graph.input.iter().map(|input| input.name.as_deref().unwrap()).collect()
}

fn operators(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(|node| node.op_type.as_deref().unwrap()).collect()
}

#[test]
fn sites_have_the_norm_and_activation_that_are_their_only_readers() {
    let backbone = small();
    let sites: Vec<_> = backbone
        .sites()
        .iter()
        .map(|site| (site.name.as_str(), site.conv, site.kernel, site.norm, site.activation))
        .collect();
    assert_eq!(
        sites,
        [
            ("spatial", 0, [3, 3], Some(1), Some(2)),
            ("pointwise", 3, [1, 1], Some(4), None),
            ("bare", 5, [1, 1], None, None)
        ]
    );
    // If a convolution has other readers, its norm is not fused.
    let mut graph = small().graph().clone();
    graph.nodes[4] = Node {
        name: "both".into(),
        op: Op::Add,
        inputs: vec![ValueId(4), ValueId(1)],
    };
    let sites = self::backbone(graph, None).sites().to_vec();
    assert_eq!((sites[0].norm, sites[1].norm), (None, None));
}

#[test]
fn identity_adapters_contain_the_folded_norm() {
    let backbone = small();
    // Values: γ = 2 and 2.25, σ² + ε = 4 and 4.25, β = 0.5 and 0.75, μ = −1 and −0.75, c = 1 and 1.25.
    let factors = [1.0, 2.25 / 4.25_f64.sqrt()];
    let offset = |channel: usize, c: f64| [0.5, 0.75][channel] + (c - [-1.0, -0.75][channel]) * factors[channel];
    for recipe in Recipe::ALL {
        let adapter = identity(&backbone, recipe);
        assert_eq!(check_adapter(&backbone, &adapter), Ok(()));
        for site in &adapter.sites {
            let (factor, bias): ([f64; 2], [f64; 2]) = match site.name.as_deref().unwrap_or_default() {
                "spatial" => (factors, [offset(0, 1.0), offset(1, 1.25)]),
                "pointwise" => (factors, [offset(0, 0.0), offset(1, 0.0)]),
                _ => ([1.0; 2], [2.0, 2.25]),
            };
            assert_eq!(site.bias, bias.map(|value| value as f32), "{recipe} {:?}", site.name);
            let expected: Vec<f32> = match &site.weights {
                SiteWeights::Scale(_) => factor.map(|value| value as f32).to_vec(),
                SiteWeights::Kernel(_) => factor
                    .iter()
                    .flat_map(|&value| (0..9).map(move |tap| if tap == 4 { value as f32 } else { 0.0 }))
                    .collect(),
            };
            let (SiteWeights::Scale(got) | SiteWeights::Kernel(got)) = &site.weights;
            assert_eq!(got, &expected);
        }
    }
    let kinds = |recipe: Recipe| {
        identity(&backbone, recipe)
            .sites
            .iter()
            .map(|site| matches!(site.weights, SiteWeights::Kernel(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(Recipe::Linear), [] as [bool; 0]);
    assert_eq!(kinds(Recipe::Bn), [false, false, false]);
    assert_eq!(kinds(Recipe::Clr), [true, false, false]);
    assert_eq!(kinds(Recipe::ClrFull), [true, true, true]);
}

#[test]
fn frozen_sites_have_their_norm_folded_into_the_convolution() {
    let backbone = small();
    let model = reprogram(&backbone, Recipe::Linear, HeadPart::Features, [8, 8])
        .unwrap()
        .model;
    let graph = model.proto().graph.clone().unwrap();
    assert_eq!(
        operators(&graph),
        ["Conv", "Relu", "Conv", "Conv", "GlobalAveragePool", "Flatten"]
    );
    assert_eq!(inputs(&graph), ["image"]);
    assert_eq!(graph.output[0].name.as_deref(), Some("features"));
    let Op::Conv(conv) = &backbone.graph().nodes[3].op else {
        panic!("no convolution")
    };
    let factor = 2.25 / 4.25_f64.sqrt();
    let expected: Vec<f32> = conv
        .weight
        .values()
        .iter()
        .enumerate()
        .map(|(index, &w)| (f64::from(w) * [1.0, factor][index / 2]) as f32)
        .collect();
    assert_eq!(constant(&graph, "pointwise.weight"), expected);
    assert_eq!(
        constant(&graph, "pointwise.bias"),
        identity(&backbone, Recipe::Bn).sites[1].bias
    );
}

#[test]
fn a_reprogrammed_graph_takes_the_adapter_as_inputs() {
    let backbone = small();
    let reprogrammed = reprogram(&backbone, Recipe::Clr, HeadPart::Logits { classes: 3 }, [8, 8]).unwrap();
    let graph = reprogrammed.model.proto().graph.as_ref().unwrap();
    let expected: [(&str, &[usize], ParameterSource); 8] = [
        ("spatial.kernel", &[2, 1, 3, 3], ParameterSource::SiteWeights(0)),
        ("spatial.bias", &[2], ParameterSource::SiteBias(0)),
        ("pointwise.scale", &[1, 2, 1, 1], ParameterSource::SiteWeights(1)),
        ("pointwise.bias", &[1, 2, 1, 1], ParameterSource::SiteBias(1)),
        ("bare.scale", &[1, 2, 1, 1], ParameterSource::SiteWeights(2)),
        ("bare.bias", &[1, 2, 1, 1], ParameterSource::SiteBias(2)),
        ("head.weight", &[3, 2], ParameterSource::HeadWeight),
        ("head.bias", &[3], ParameterSource::HeadBias),
    ];
    let got: Vec<_> = reprogrammed
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), &p.shape[..], p.source))
        .collect();
    assert_eq!(got, expected);
    let names: Vec<_> = ["image"].into_iter().chain(expected.map(|(name, ..)| name)).collect();
    assert_eq!(inputs(graph), names);
    assert_eq!(
        operators(graph),
        [
            "Conv",
            "Conv",
            "Relu",
            "Conv",
            "Mul",
            "Add",
            "Conv",
            "Mul",
            "Add",
            "GlobalAveragePool",
            "Flatten",
            "Gemm"
        ]
    );
    // The frozen convolution before a site has no bias, because the bias is applied after the kernel.
    assert_eq!(graph.node[0].input.len(), 2);
    let adapter = identity(&backbone, Recipe::Clr);
    for parameter in &reprogrammed.parameters {
        assert_eq!(
            parameter.values(&adapter).unwrap().len(),
            parameter.shape.iter().product::<usize>()
        );
    }
}

#[test]
fn an_export_has_a_default_for_every_input_but_the_image() {
    let backbone = small();
    let adapter = identity(&backbone, Recipe::ClrFull);
    let model = export(&backbone, &adapter, [8, 8]).unwrap();
    let model = model.proto().clone();
    assert!(model.ir_version >= Some(4));
    let graph = model.graph.unwrap();
    for name in &inputs(&graph)[1..] {
        let _ = constant(&graph, name);
    }
    let SiteWeights::Kernel(kernel) = &adapter.sites[1].weights else {
        panic!("clr-full has kernels everywhere")
    };
    assert_eq!(&constant(&graph, "pointwise.kernel"), kernel);
    assert_eq!(constant(&graph, "head.weight"), adapter.head.weight);
    assert!(
        model
            .metadata_props
            .iter()
            .any(|entry| entry.key.as_deref() == Some("clr.labels"))
    );
}

#[test]
fn a_merged_model_is_plain_and_a_backbone_again() {
    let backbone = small();
    let adapter = identity(&backbone, Recipe::Clr);
    let model = merge(&backbone, &adapter, [8, 8]).unwrap();
    let graph = model.proto().graph.as_ref().unwrap();
    assert_eq!(inputs(graph), ["image"]);
    assert_eq!(
        operators(graph),
        [
            "Conv",
            "Conv",
            "Relu",
            "Conv",
            "Conv",
            "GlobalAveragePool",
            "Flatten",
            "Gemm"
        ]
    );
    let again = Backbone::from_bytes(&model.to_bytes(), "merged").unwrap();
    assert_eq!(again.classifier(), backbone.classifier());
    assert_eq!(again.labels().unwrap(), adapter.header.labels);
    let Op::Conv(depthwise) = &again.graph().nodes[1].op else {
        panic!("no depthwise convolution")
    };
    assert_eq!(
        (depthwise.group, depthwise.kernel(), depthwise.padding),
        (2, [3, 3], Padding::Explicit([1; 4]))
    );
}

#[test]
fn an_adapter_with_the_last_sites_is_exported_and_merged_like_one_with_all_sites() {
    let backbone = small();
    let complete = identity(&backbone, Recipe::Clr);
    for sites in 1..complete.sites.len() {
        let mut late = complete.clone();
        late.sites.drain(..complete.sites.len() - sites);
        assert_eq!(check_adapter(&backbone, &late), Ok(()));
        assert_eq!(*with_all_sites(&backbone, &late), complete);
        let aligned = aligned_sites(&backbone, &late);
        assert_eq!(aligned.into_iter().flatten().count(), sites);
        let bytes = |adapter: &Adapter| {
            [
                export(&backbone, adapter, [8, 8]).unwrap().to_bytes(),
                merge(&backbone, adapter, [8, 8]).unwrap().to_bytes(),
            ]
        };
        assert!(bytes(&late) == bytes(&complete));
    }
}

#[test]
fn every_recipe_rewrites_a_backbone_with_every_operation() {
    let backbone = backbone(everything(), Some(head(8, 3)));
    for recipe in Recipe::ALL {
        let adapter = identity(&backbone, recipe);
        let sites = backbone
            .sites()
            .iter()
            .filter(|site| recipe.site_kind(site.kernel) != SiteKind::Frozen)
            .count();
        assert_eq!(adapter.sites.len(), sites);
        let reprogrammed = reprogram(&backbone, recipe, HeadPart::Logits { classes: 3 }, [8, 8]).unwrap();
        assert_eq!(reprogrammed.parameters.len(), 2 * sites + 2);
        for model in [
            reprogrammed.model,
            export(&backbone, &adapter, [8, 8]).unwrap(),
            merge(&backbone, &adapter, [16, 12]).unwrap(),
        ] {
            let graph = model.proto().graph.as_ref().unwrap();
            let mut names: Vec<_> = graph.node.iter().map(|node| node.output[0].as_str()).collect();
            names.extend(graph.initializer.iter().map(|tensor| tensor.name.as_deref().unwrap()));
            names.extend(
                inputs(graph)
                    .into_iter()
                    .filter(|name| !graph.initializer.iter().any(|t| t.name.as_deref() == Some(name))),
            );
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "a value is defined twice");
        }
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_with_what_was_expected() {
    let backbone = small();
    let refused = |change: &dyn Fn(&mut Adapter)| {
        let mut adapter = identity(&backbone, Recipe::Clr);
        change(&mut adapter);
        let mismatch = check_adapter(&backbone, &adapter).unwrap_err();
        assert!(export(&backbone, &adapter, [8, 8]).is_err() && merge(&backbone, &adapter, [8, 8]).is_err());
        mismatch
    };
    assert!(matches!(
        refused(&|a| a.header.backbone.0[0] ^= 1),
        AdapterMismatch::Backbone { .. }
    ));
    assert!(matches!(
        refused(&|a| drop(a.sites.pop())),
        AdapterMismatch::SiteName { index: 0, .. }
    ));
    assert!(matches!(
        refused(&|a| a.sites.clear()),
        AdapterMismatch::SiteCount {
            expected: 3,
            got: 0,
            ..
        }
    ));
    assert!(matches!(
        refused(&|a| a.sites.insert(0, a.sites[0].clone())),
        AdapterMismatch::SiteCount {
            expected: 3,
            got: 4,
            ..
        }
    ));
    assert!(matches!(
        refused(&|a| a.sites.swap(1, 2)),
        AdapterMismatch::SiteName { index: 1, .. }
    ));
    assert!(matches!(
        refused(&|a| a.sites[0].weights = SiteWeights::Scale(vec![1.0; 2])),
        AdapterMismatch::SiteShape { part: "weights", .. }
    ));
    assert!(matches!(
        refused(&|a| a.sites[0].bias.push(0.0)),
        AdapterMismatch::SiteShape { part: "bias", .. }
    ));
    assert!(matches!(
        refused(&|a| a.head.features = 5),
        AdapterMismatch::Head {
            part: "features",
            expected: 2,
            got: 5,
            ..
        }
    ));
    assert!(matches!(
        refused(&|a| a.head.weight.truncate(5)),
        AdapterMismatch::Head { part: "weight", .. }
    ));
    assert!(matches!(
        refused(&|a| drop(a.header.labels.pop())),
        AdapterMismatch::Head {
            part: "labels",
            expected: 3,
            got: 2,
            ..
        }
    ));
    let empty = |adapter: &mut Adapter| {
        adapter.head = Head {
            features: 2,
            weight: vec![],
            bias: vec![],
        };
        adapter.header.labels.clear();
    };
    assert!(matches!(refused(&empty), AdapterMismatch::Head { part: "bias", .. }));
}

#[test]
fn the_original_classifier_is_an_adapter() {
    let backbone = small();
    let adapter = backbone.original_adapter().unwrap();
    assert_eq!(check_adapter(&backbone, &adapter), Ok(()));
    assert_eq!(
        (adapter.header.recipe, adapter.header.provenance, adapter.header.version),
        (Recipe::Linear, Provenance::Imported, 1)
    );
    assert_eq!(adapter.header.labels, ["class 0", "class 1", "class 2"]);
}
