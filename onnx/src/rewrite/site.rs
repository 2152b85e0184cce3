//! A single convolution with its site.

use clr_adapters::{SiteKind, SiteWeights};

use super::{
    Mode, ParameterSource, Rewrite,
    fold::{affine, convolution, scaled},
};
use crate::{
    ConvWeight, Quantisation, SiteInfo, Tensor,
    graph::{Conv, Node, Padding},
    write::{int, ints, rounded_bias},
};

impl Rewrite<'_> {
    /// Declares the inputs of the sites, in the sites' order, before any other name is assigned.
    pub(super) fn declare_sites(&mut self) {
        if matches!(self.mode, Mode::Constants(_)) {
            return;
        }
        let kinds = self
            .backbone
            .sites()
            .iter()
            .map(|site| (site, self.recipe.site_kind(site.kernel)));
        let reprogrammed: Vec<_> = kinds.filter(|&(_, kind)| kind != SiteKind::Frozen).collect();
        for (index, (site, kind)) in reprogrammed.into_iter().enumerate() {
            let (name, channels) = (&site.name, site.channels);
            let (part, weights, bias) = if kind == SiteKind::Kernel {
                ("kernel", vec![channels, 1, 3, 3], vec![channels])
            } else {
                ("scale", vec![1, channels, 1, 1], vec![1, channels, 1, 1])
            };
            let (weights_name, bias_name) = (format!("{name}.{part}"), format!("{name}.bias"));
            self.builder.reserve_value(&weights_name);
            self.builder.reserve_value(&bias_name);
            self.parameter(weights_name, weights, ParameterSource::SiteWeights(index));
            self.parameter(bias_name, bias, ParameterSource::SiteBias(index));
        }
    }

    /// Writes a convolution and its site. Returns the name of the site's value. `reprogrammed` counts the sites that
    /// are not frozen.
    pub(super) fn site(&mut self, node: &Node, site: &SiteInfo, reprogrammed: &mut usize) -> String {
        let graph = self.backbone.graph();
        // `SiteInfo::conv` always refers to a convolution.
        let Some(conv) = convolution(graph, site) else {
            return String::new();
        };
        let conv = &self.explicit(conv, node);
        let input = Input {
            name: &self.values[node.inputs[0].0].clone(),
            grid: self.grids[node.inputs[0].0],
        };
        let kind = self.recipe.site_kind(site.kernel);
        let own = match self.mode {
            Mode::Constants(adapter) => adapter.sites.get(*reprogrammed).filter(|_| kind != SiteKind::Frozen),
            _ => None,
        };
        *reprogrammed += usize::from(kind != SiteKind::Frozen);
        match (kind, own.map(|site| (&site.weights, &site.bias))) {
            (SiteKind::Frozen, _) => {
                let affine = affine(graph, site);
                let weight = scaled(conv, affine.iter().map(|&[factor, _]| factor));
                let bias: Vec<f32> = affine.iter().map(|&[_, offset]| offset as f32).collect();
                self.constant_convolution(node, site, conv, &weight, &bias, input)
            }
            (_, Some((SiteWeights::Scale(scale), bias))) => {
                let weight = scaled(conv, scale.iter().map(|&factor| factor.into()));
                self.constant_convolution(node, site, conv, &weight, bias, input)
            }
            (_, Some((SiteWeights::Kernel(kernel), bias))) => {
                let plain = self.plain_convolution(node, conv, input);
                let (name, output) = (
                    self.builder.helper(&format!("{}.clr", site.name)),
                    self.site_value(site),
                );
                let depthwise = depthwise(site.channels, kernel);
                self.builder.convolution(
                    &name,
                    &depthwise,
                    &depthwise.weight,
                    Some(bias),
                    (&plain, None),
                    &output,
                );
                output
            }
            (SiteKind::Kernel, None) => {
                let plain = self.plain_convolution(node, conv, input);
                let (name, output) = (
                    self.builder.helper(&format!("{}.clr", site.name)),
                    self.site_value(site),
                );
                let (kernel, bias) = (format!("{}.kernel", site.name), format!("{}.bias", site.name));
                let attributes = vec![
                    int("group", site.channels),
                    ints("kernel_shape", &[3, 3]),
                    ints("pads", &[1; 4]),
                    ints("strides", &[1, 1]),
                ];
                self.builder
                    .node(&name, "Conv", &[&plain, &kernel, &bias], &output, attributes);
                output
            }
            (SiteKind::Scale, None) => {
                let plain = self.plain_convolution(node, conv, input);
                let multiply = self.builder.helper(&format!("{}.mul", site.name));
                let (scaled, output) = (
                    self.builder.value(&format!("{}.scaled", site.name)),
                    self.site_value(site),
                );
                let (scale, bias) = (format!("{}.scale", site.name), format!("{}.bias", site.name));
                self.builder.node(&multiply, "Mul", &[&plain, &scale], &scaled, vec![]);
                let add = self.builder.helper(&format!("{}.add", site.name));
                self.builder.node(&add, "Add", &[&scaled, &bias], &output, vec![]);
                output
            }
        }
    }

    /// Returns the convolution without a bias.
    fn plain_convolution(&mut self, node: &Node, conv: &Conv, input: Input<'_>) -> String {
        let output = self.builder.value(&node.name);
        self.builder
            .convolution(&node.name, conv, &conv.weight, None, (input.name, input.grid), &output);
        output
    }

    fn constant_convolution(
        &mut self,
        node: &Node,
        site: &SiteInfo,
        conv: &Conv,
        weight: &ConvWeight,
        bias: &[f32],
        input: Input<'_>,
    ) -> String {
        let output = self.site_value(site);
        let bias = rounded_bias(weight, bias, input.grid);
        let input = (input.name, input.grid);
        self.builder
            .convolution(&node.name, conv, weight, Some(&bias), input, &output);
        output
    }

    /// Returns the name of the site's output value.
    fn site_value(&mut self, site: &SiteInfo) -> String {
        self.value_of(site.norm.unwrap_or(site.conv), &format!("{}.site", site.name))
    }

    fn explicit(&self, conv: &Conv, node: &Node) -> Conv {
        let size = self.shapes[node.inputs[0].0].spatial().unwrap_or(self.size);
        Conv {
            padding: Padding::Explicit(conv.padding.resolve(size, conv.kernel(), conv.stride, conv.dilation)),
            ..conv.clone()
        }
    }
}

/// The input of a convolution in the model.
#[derive(Clone, Copy)]
struct Input<'a> {
    name: &'a str,
    /// The grid on which it lies.
    grid: Option<Quantisation>,
}

fn depthwise(channels: usize, kernel: &[f32]) -> Conv {
    Conv {
        weight: Tensor::new([channels, 1, 3, 3], kernel).into(),
        bias: None,
        stride: [1, 1],
        dilation: [1, 1],
        group: channels,
        padding: Padding::Explicit([1; 4]),
    }
}
