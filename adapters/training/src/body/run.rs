//! Forward and back for one picture.

use std::ops::Range;

use clr_kernels::{
    Binary, Bounds, LANES, PoolKind, Post, affine_forward, affine_gradient, binary, clamp_gradient, clr_forward,
    clr_gradient, global_average, global_average_gradient, interleave, pool, pool_gradient,
};
use clr_onnx::ValueId;

use super::{Body, SiteParameters, SiteWork, Step, Work};

/// What the way back through one picture reads.
pub(crate) struct Tape {
    /// Values of the graph that are still of use.
    values: Vec<Option<Vec<f32>>>,
    /// The bare convolution's result, step by step.
    sums: Vec<Option<Vec<f32>>>,
    /// `[F]`.
    pub(crate) features: Vec<f32>,
}

impl Body {
    /// The features `[F]` of a picture `[3, H, W]`.
    pub(crate) fn features(&self, image: &[f32], sites: &[SiteParameters]) -> Vec<f32> {
        let pixels = self.pixels(image);
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        for step in &self.steps {
            let mut out = self.buffers.take(self.lengths[step.output.0]);
            match &step.work {
                Work::Site(site) => {
                    let parameters = &sites[site.index];
                    let fused = if parameters.post == Post::Kernel {
                        &site.kernel
                    } else {
                        &site.affine
                    };
                    fused.run(input(step, &pixels, &values), &parameters.blocks, None, &mut out);
                }
                _ => self.plain_step(step, &values, &mut out),
            }
            values[step.output.0] = Some(out);
            for released in &step.release {
                self.release(&mut values, *released);
            }
        }
        self.buffers.give(pixels);
        self.take_features(&mut values)
    }

    /// The same, remembering what the way back needs.
    pub(crate) fn forward(&self, image: &[f32], sites: &[SiteParameters]) -> Tape {
        let pixels = self.pixels(image);
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        let mut sums: Vec<Option<Vec<f32>>> = vec![None; self.steps.len()];
        // A value that an earlier step keeps is not released by a later one.
        let mut kept = vec![false; self.lengths.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let mut out = self.buffers.take(self.lengths[step.output.0]);
            match &step.work {
                Work::Site(site) => {
                    let parameters = &sites[site.index];
                    let mut sum = self.buffers.take(out.len());
                    site.conv
                        .run(input(step, &pixels, &values), &site.plain, None, &mut sum);
                    let [height, width] = site.conv.output;
                    let (x, blocks) = (&sum, &parameters.blocks);
                    match parameters.post {
                        Post::Kernel => {
                            clr_forward(
                                self.level,
                                &self.arena,
                                x,
                                blocks,
                                [height, width],
                                &mut out,
                                site.bounds,
                            );
                        }
                        Post::Affine => {
                            affine_forward(self.level, x, blocks, height * width * LANES, &mut out, site.bounds);
                        }
                    }
                    sums[index] = Some(sum);
                }
                _ => self.plain_step(step, &values, &mut out),
            }
            values[step.output.0] = Some(out);
            for &value in &step.kept {
                kept[value.0] = true;
            }
            for released in step.release.iter().filter(|released| !kept[released.0]) {
                self.release(&mut values, *released);
            }
        }
        self.buffers.give(pixels);
        let features = self.take_features(&mut values);
        Tape { values, sums, features }
    }

    /// From the gradient of the features `[F]` to those of the trained sites, in the layout of their blocks, at `places` of the result
    /// of `length` values. Nothing below the first trained site is computed.
    pub(crate) fn backward(
        &self,
        mut tape: Tape,
        gradient: &[f32],
        sites: &[SiteParameters],
        places: &[Range<usize>],
        length: usize,
    ) -> Vec<f32> {
        let tracked = self.tracked(sites);
        let mut result = self.buffers.take(length);
        result.fill(0.0);
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        let mut first = self.buffers.take(self.lengths[self.features.0]);
        first[..gradient.len()].copy_from_slice(gradient);
        first[gradient.len()..].fill(0.0);
        gradients[self.features.0] = Some(first);
        for (index, step) in self.steps.iter().enumerate().rev() {
            let Some(mut dy) = gradients[step.output.0].take() else {
                continue;
            };
            if tracked[step.output.0] {
                match &step.work {
                    Work::Site(site) => {
                        let parameters = &sites[site.index];
                        let sums = parameters.trained.then(|| &mut result[places[site.index].clone()]);
                        let wanted = tracked[step.inputs[0].0];
                        if let Some(x) = &tape.sums[index] {
                            self.site_gradient(site, x, parameters, &mut dy, sums, wanted);
                        }
                        if let Some(way) = wanted.then(|| site.gradient()).flatten() {
                            let mut dx = self.buffers.take(way.input_len());
                            way.run(&dy, &mut dx);
                            self.add(&mut gradients, step.inputs[0], dx);
                        }
                    }
                    Work::Add(bounds) => {
                        self.clamp_gradient(*bounds, tape.values[step.output.0].as_deref(), &mut dy);
                        let tracked = step.inputs.iter().filter(|input| tracked[input.0]);
                        for input in tracked {
                            let mut copy = self.buffers.take(dy.len());
                            copy.copy_from_slice(&dy);
                            self.add(&mut gradients, *input, copy);
                        }
                    }
                    _ => {
                        let mut dx = self.buffers.take(self.lengths[step.inputs[0].0]);
                        self.plain_gradient(step, &tape.values, &mut dy, &mut dx);
                        self.add(&mut gradients, step.inputs[0], dx);
                    }
                }
            }
            self.buffers.give(dy);
        }
        let rest = tape.values.iter_mut().chain(&mut tape.sums).chain(&mut gradients);
        rest.filter_map(Option::take)
            .for_each(|buffer| self.buffers.give(buffer));
        result
    }

    /// Takes a buffer back that [`Body::backward`] gave.
    pub(crate) fn recycle(&self, buffer: Vec<f32>) {
        self.buffers.give(buffer);
    }

    /// Which values depend on a trained site.
    fn tracked(&self, sites: &[SiteParameters]) -> Vec<bool> {
        let mut tracked = vec![false; self.lengths.len()];
        for step in &self.steps {
            let own = matches!(&step.work, Work::Site(site) if sites[site.index].trained);
            tracked[step.output.0] = own || step.inputs.iter().any(|input| tracked[input.0]);
        }
        tracked
    }

    /// The picture as the first convolution reads it, `[H, W, 3]`.
    fn pixels(&self, image: &[f32]) -> Vec<f32> {
        let mut pixels = self.buffers.take(image.len());
        interleave(image, self.channels, &mut pixels);
        pixels
    }

    fn plain_step(&self, step: &Step, values: &[Option<Vec<f32>>], out: &mut [f32]) {
        let x = value(values, step.inputs[0]);
        match &step.work {
            Work::Site(_) => unreachable!("sites are run by the caller"),
            Work::Affine {
                parameters,
                plane,
                bounds,
            } => affine_forward(self.level, x, parameters, *plane, out, *bounds),
            Work::Activation(bounds) => {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = if x < bounds.low {
                        bounds.low
                    } else if x > bounds.high {
                        bounds.high
                    } else {
                        x
                    };
                }
            }
            Work::Add(bounds) => {
                let y = value(values, step.inputs[1]);
                binary(self.level, Binary::Add, x, y, x.len(), out, *bounds);
            }
            Work::Pool(shape) => {
                let (from, to) = lengths(shape);
                for (x, out) in x.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
                    pool(self.level, shape, x, out);
                }
            }
            Work::GlobalAverage { plane } => global_average(self.level, x, *plane, out),
            Work::Flatten => out.copy_from_slice(x),
        }
    }

    /// From `dy`, the gradient behind the site, to that of the convolution's result, in place.
    fn site_gradient(
        &self,
        site: &SiteWork,
        x: &[f32],
        parameters: &SiteParameters,
        dy: &mut [f32],
        sums: Option<&mut [f32]>,
        wanted: bool,
    ) {
        let (size, blocks, bounds) = (site.conv.output, &parameters.blocks, site.bounds);
        match parameters.post {
            Post::Kernel => clr_gradient(self.level, &self.arena, x, blocks, size, dy, sums, bounds, wanted),
            Post::Affine => affine_gradient(self.level, x, blocks, size[0] * size[1] * LANES, dy, sums, bounds),
        }
    }

    fn plain_gradient(&self, step: &Step, values: &[Option<Vec<f32>>], dy: &mut [f32], dx: &mut [f32]) {
        match &step.work {
            Work::Site(_) | Work::Add(_) => unreachable!("run by the caller"),
            Work::Affine {
                parameters,
                plane,
                bounds,
            } => {
                let x = value(values, step.inputs[0]);
                affine_gradient(self.level, x, parameters, *plane, dy, None, *bounds);
                dx.copy_from_slice(dy);
            }
            Work::Activation(bounds) => {
                self.clamp_gradient(*bounds, values[step.output.0].as_deref(), dy);
                dx.copy_from_slice(dy);
            }
            Work::Pool(shape) => {
                let (from, to) = lengths(shape);
                let none = vec![0.0; if shape.kind == PoolKind::Max { 0 } else { from }];
                let x = values[step.inputs[0].0].as_deref().filter(|_| none.is_empty());
                for (block, (dy, dx)) in dy.chunks_exact(to).zip(dx.chunks_exact_mut(from)).enumerate() {
                    let x = x.map_or(&none[..], |x| &x[block * from..(block + 1) * from]);
                    pool_gradient(self.level, shape, x, dy, dx);
                }
            }
            Work::GlobalAverage { plane } => global_average_gradient(dy, *plane, dx),
            Work::Flatten => dx.copy_from_slice(dy),
        }
    }

    /// A clamp's derivative, told from its result: strictly inside the bounds it is 1.
    fn clamp_gradient(&self, bounds: Bounds, result: Option<&[f32]>, dy: &mut [f32]) {
        if let Some(result) = result.filter(|_| bounds != Bounds::NONE) {
            clamp_gradient(self.level, result, dy, bounds);
        }
    }

    /// Adds to the gradient of a value.
    fn add(&self, gradients: &mut [Option<Vec<f32>>], to: ValueId, gradient: Vec<f32>) {
        match &mut gradients[to.0] {
            Some(sum) => {
                sum.iter_mut().zip(&gradient).for_each(|(sum, part)| *sum += part);
                self.buffers.give(gradient);
            }
            empty => *empty = Some(gradient),
        }
    }

    fn release(&self, values: &mut [Option<Vec<f32>>], id: ValueId) {
        if let Some(buffer) = values[id.0].take() {
            self.buffers.give(buffer);
        }
    }

    /// The features out of the blocks.
    fn take_features(&self, values: &mut [Option<Vec<f32>>]) -> Vec<f32> {
        let blocks = value(values, self.features);
        let features = blocks[..self.feature_count].to_vec();
        self.release(values, self.features);
        features
    }
}

/// Values of a block before and after a pool.
fn lengths(shape: &clr_kernels::PoolShape) -> (usize, usize) {
    let area = |size: [usize; 2]| size[0] * size[1] * LANES;
    (area(shape.input), area(shape.output))
}

/// A value that a step before has computed.
fn value(values: &[Option<Vec<f32>>], id: ValueId) -> &[f32] {
    values[id.0]
        .as_deref()
        .expect("steps are in order, and values are released after their last use")
}

fn input<'a>(step: &Step, pixels: &'a [f32], values: &'a [Option<Vec<f32>>]) -> &'a [f32] {
    let id = step.inputs[0];
    if id == ValueId::IMAGE {
        pixels
    } else {
        value(values, id)
    }
}
