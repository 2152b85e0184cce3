//! The backbone's own norms as scale and bias, in double precision inside.

use clr_onnx::{Backbone, BatchNorm, Conv, Op, SiteInfo};

use clr_kernels::pack_parameters;

/// A norm as scale and bias.
pub(super) fn norm_affine(norm: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let channels = 0..norm.scale.data().len();
    channels
        .map(|c| {
            let scale =
                f64::from(norm.scale.data()[c]) / (f64::from(norm.variance.data()[c]) + f64::from(norm.epsilon)).sqrt();
            let bias = f64::from(norm.bias.data()[c]) - f64::from(norm.mean.data()[c]) * scale;
            (scale as f32, bias as f32)
        })
        .unzip()
}

/// What a frozen site puts behind its bias-free convolution: its own bias, then its own norm.
pub(super) fn frozen(backbone: &Backbone, info: &SiteInfo, conv: &Conv) -> Vec<f32> {
    let own = |c: usize| conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[c]));
    let norm = info.norm.map(|norm| &backbone.graph().nodes[norm].op);
    let (scale, bias): (Vec<f32>, Vec<f32>) = match norm {
        Some(Op::BatchNorm(norm)) => (0..info.channels)
            .map(|c| {
                let scale = f64::from(norm.scale.data()[c])
                    / (f64::from(norm.variance.data()[c]) + f64::from(norm.epsilon)).sqrt();
                let bias = f64::from(norm.bias.data()[c]) + (own(c) - f64::from(norm.mean.data()[c])) * scale;
                (scale as f32, bias as f32)
            })
            .unzip(),
        _ => (0..info.channels).map(|c| (1.0, own(c) as f32)).unzip(),
    };
    pack_parameters(&scale, &bias)
}
