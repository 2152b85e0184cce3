//! Test cases: every operator, with the variables that have gradients.

use super::{ACTIVATIONS, activation, convolution, ops, pool, variable};
use candle_core::{Result, Tensor, Var};
use clr_onnx::Padding;

type Run = dyn Fn(&[Var]) -> Result<Tensor> + Sync;

/// An operator applied to variables.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) variables: Vec<Var>,
    pub(super) run: Box<Run>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        variables: Vec<Var>,
        run: impl Fn(&[Var]) -> Result<Tensor> + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            variables,
            run: Box::new(run),
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = convolutions();
    for name in ACTIVATIONS {
        let act = activation(name);
        let map = [2, 2, 4, 5];
        let parameters = vec![
            variable(&map, 1, 2.0),
            variable(&[2, 1, 3, 3], 2, 1.0),
            variable(&[2], 3, 1.0),
        ];
        cases.push(Case::new(format!("site {name}"), parameters, move |v| {
            ops::clr_site(&v[0], &v[1], &v[2], act)
        }));
        let parameters = vec![variable(&map, 1, 4.0), variable(&[2], 2, 1.0), variable(&[2], 3, 1.0)];
        cases.push(Case::new(format!("scale {name}"), parameters, move |v| {
            ops::scale_shift(&v[0], &v[1], &v[2], act)
        }));
        let parameters = vec![variable(&map, 1, 2.0), variable(&[2], 2, 1.0), variable(&[2], 3, 1.0)];
        cases.push(Case::new(format!("norm {name}"), parameters, move |v| {
            Ok(ops::batch_norm(&v[0], &v[1], &v[2], 1e-3, act)?.0)
        }));
        let parameters = vec![
            variable(&map, 1, 2.0),
            variable(&[2, 1, 3, 3], 4, 1.0),
            variable(&[2], 2, 1.0),
            variable(&[2], 3, 1.0),
        ];
        cases.push(Case::new(format!("site norm {name}"), parameters, move |v| {
            Ok(ops::clr_batch_norm(&v[0], &v[1], &v[2], &v[3], 1e-3, act)?.0)
        }));
        cases.push(Case::new(
            format!("sum {name}"),
            vec![variable(&map, 1, 4.0), variable(&map, 2, 4.0)],
            move |v| ops::add_activation(&v[0], &v[1], act),
        ));
        if let Some(act) = act {
            cases.push(Case::new(
                format!("activation {name}"),
                vec![variable(&map, 1, 4.0)],
                move |v| ops::activation(&v[0], act),
            ));
        }
    }
    let map = [2, 2, 7, 6];
    cases.push(Case::new(
        "depthwise",
        vec![variable(&map, 1, 1.0), variable(&[2, 1, 3, 3], 2, 1.0)],
        |v| ops::clr_depthwise(&v[0], &v[1]),
    ));
    cases.push(Case::new(
        "prelu",
        vec![variable(&map, 1, 1.0), variable(&[2], 2, 1.0)],
        |v| ops::prelu(&v[0], &v[1]),
    ));
    for (kernel, stride, pads, ceil) in [
        (3, 2, [1, 1, 1, 1], false),
        (2, 2, [0, 0, 0, 0], false),
        (3, 2, [0, 0, 0, 0], true),
        (3, 1, [1, 0, 0, 1], false),
    ] {
        let window = pool(kernel, stride, pads, ceil, false);
        let name = format!("{kernel} / {stride} pads {pads:?} ceil {ceil}");
        cases.push(Case::new(
            format!("max {name}"),
            vec![variable(&map, 1, 1.0)],
            move |v| ops::max_pool(&v[0], &window),
        ));
        for count in [false, true] {
            let window = pool(kernel, stride, pads, ceil, count);
            cases.push(Case::new(
                format!("average {name} count {count}"),
                vec![variable(&map, 1, 1.0)],
                move |v| ops::average_pool(&v[0], &window),
            ));
        }
    }
    cases.push(Case::new("global", vec![variable(&map, 1, 1.0)], |v| {
        ops::global_average_pool(&v[0])
    }));
    cases
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    let same = Padding::SameUpper;
    let explicit = |pad| Padding::Explicit([pad; 4]);
    for (map, weight, group, stride, dilation, padding) in [
        ([2, 3, 7, 6], [4, 3, 3, 3], 1, 1, 1, explicit(1)),
        ([1, 16, 6, 5], [16, 16, 3, 3], 1, 1, 1, explicit(1)),
        ([2, 16, 5, 7], [18, 16, 3, 3], 1, 1, 1, explicit(0)),
        ([2, 3, 7, 6], [4, 3, 3, 3], 1, 2, 1, same),
        ([2, 3, 7, 6], [4, 3, 3, 3], 1, 2, 1, Padding::SameLower),
        ([1, 2, 9, 10], [3, 2, 7, 7], 1, 2, 1, explicit(3)),
        ([2, 5, 4, 3], [6, 5, 1, 1], 1, 1, 1, explicit(0)),
        ([2, 5, 5, 4], [6, 5, 1, 1], 1, 2, 1, explicit(0)),
        ([1, 6, 5, 4], [4, 3, 3, 3], 2, 1, 1, explicit(1)),
        ([1, 2, 8, 9], [3, 2, 3, 3], 1, 1, 2, explicit(2)),
        ([1, 3, 7, 8], [3, 1, 3, 3], 3, 1, 1, same),
        ([1, 3, 7, 8], [3, 1, 3, 3], 3, 2, 1, same),
        ([1, 3, 8, 8], [3, 1, 5, 5], 3, 2, 1, same),
        ([1, 3, 8, 8], [3, 1, 5, 5], 3, 1, 1, same),
        ([1, 2, 9, 8], [2, 1, 3, 3], 2, 1, 2, explicit(2)),
        ([1, 2, 6, 5], [6, 1, 3, 3], 2, 1, 1, explicit(1)),
        ([1, 2, 7, 8], [3, 2, 3, 3], 1, 3, 1, explicit(0)),
    ] {
        let conv = convolution(weight, group, [stride; 2], [dilation; 2], padding);
        let name =
            format!("convolution {map:?} {weight:?} group {group} stride {stride} dilation {dilation} {padding:?}");
        cases.push(Case::new(name, vec![variable(&map, 1, 1.0)], move |v| {
            conv.forward(&v[0])
        }));
    }
    cases
}
