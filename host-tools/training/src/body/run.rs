//! Forward and back for one picture.

use std::ops::Range;

use clr_kernels::{
    Binary, Bounds, LANES, PoolKind, Post, affine_forward, affine_gradient, binary, clamp_gradient, clr_forward,
    clr_gradient, global_average, global_average_gradient, interleave, pool, pool_gradient,
};
use clr_onnx::ValueId;

use super::{Body, SiteParameters, SiteWork, Step, Work};

/// A picture's values below the first trained site, or its features if no site is trained: what does not change while the sites above
/// learn, so that it may be computed once and kept.
#[derive(Clone, Debug)]
pub struct Start {
    values: Vec<(ValueId, Vec<f32>)>,
    /// The step to go on with.
    step: usize,
}

impl Start {
    /// Bytes that it takes to keep this.
    pub fn bytes(&self) -> usize {
        let values = self.values.iter();
        values.map(|(_, values)| size_of::<f32>() * values.capacity()).sum()
    }
}

/// What the way back through one picture reads.
pub(crate) struct Tape {
    /// Values of the graph that are still of use.
    values: Vec<Option<Vec<f32>>>,
    /// The bare convolution's result, step by step.
    sums: Vec<Option<Vec<f32>>>,
    /// First steps of the segments; the steps of all but the last are computed again on the way back.
    segments: Vec<usize>,
    /// `[F]`.
    pub(crate) features: Vec<f32>,
}

impl Body {
    /// The features `[F]` of a picture `[3, H, W]`.
    pub(crate) fn features(&self, image: &[f32], sites: &[SiteParameters]) -> Vec<f32> {
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        values[ValueId::IMAGE.0] = Some(self.pixels(image));
        self.infer(0..self.steps.len(), &mut values, sites);
        self.take_features(&mut values)
    }

    /// What stands before step `first` for a picture `[3, H, W]`, or behind the last one.
    pub(crate) fn start(&self, image: &[f32], sites: &[SiteParameters], first: usize) -> Start {
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        values[ValueId::IMAGE.0] = Some(self.pixels(image));
        self.infer(0..first, &mut values, sites);
        let live = self.live(first);
        // Copies of the exact length: buffers go back to where they came from.
        let copied = live.iter().map(|id| (*id, value(&values, *id).to_vec())).collect();
        values
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|buffer| self.buffers.give(buffer));
        Start {
            values: copied,
            step: first,
        }
    }

    /// The features `[F]` behind `start`, in inference's own way.
    pub(crate) fn finish(&self, start: &Start, sites: &[SiteParameters]) -> Vec<f32> {
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        for (id, start) in &start.values {
            let mut copy = self.buffers.take(start.len());
            copy.copy_from_slice(start);
            values[id.0] = Some(copy);
        }
        self.infer(start.step..self.steps.len(), &mut values, sites);
        self.take_features(&mut values)
    }

    /// Steps in inference's own way.
    fn infer(&self, steps: Range<usize>, values: &mut [Option<Vec<f32>>], sites: &[SiteParameters]) {
        for step in &self.steps[steps] {
            let mut out = self.buffers.take(self.lengths[step.output.0]);
            match &step.work {
                Work::Site(site) => {
                    let parameters = &sites[site.index];
                    let forms = site.forms();
                    let fused = if parameters.post == Post::Kernel {
                        &forms.kernel
                    } else {
                        &forms.affine
                    };
                    fused.run(value(values, step.inputs[0]), &parameters.blocks, None, &mut out);
                }
                _ => self.plain_step(step, values, &mut out),
            }
            values[step.output.0] = Some(out);
            for released in &step.release {
                self.release(values, *released);
            }
        }
    }

    /// Forward from `start`, remembering what the way back needs. The steps fall into `segments`, whose first steps are given; all but
    /// the last remember only the values between them.
    pub(crate) fn forward(&self, start: &Start, sites: &[SiteParameters], segments: &[usize]) -> Tape {
        let mut tape = Tape {
            values: vec![None; self.lengths.len()],
            sums: vec![None; self.steps.len()],
            segments: segments.to_vec(),
            features: Vec::new(),
        };
        for (id, values) in &start.values {
            let mut copy = self.buffers.take(values.len());
            copy.copy_from_slice(values);
            tape.values[id.0] = Some(copy);
        }
        let between = self.between(segments);
        for (index, &first) in segments.iter().enumerate() {
            let end = segments.get(index + 1).copied().unwrap_or(self.steps.len());
            self.segment(first..end, &mut tape, sites, &between, index + 1 == segments.len());
            self.between_segments(segments);
        }
        tape.features = self.take_features(&mut tape.values);
        tape
    }

    /// Each segment takes buffers of its own lengths: kept for all of them, these would be as many as without segments.
    fn between_segments(&self, segments: &[usize]) {
        if segments.len() > 1 {
            self.buffers.free();
        }
    }

    /// The steps of one segment; `keep` what its way back reads. A value in `between` stays in any case.
    fn segment(&self, steps: Range<usize>, tape: &mut Tape, sites: &[SiteParameters], between: &[bool], keep: bool) {
        // A value that an earlier step keeps is not released by a later one.
        let mut kept = between.to_vec();
        for index in steps {
            let step = &self.steps[index];
            // What a later segment reads is already there when this one runs again.
            let known = tape.values[step.output.0].is_some();
            let mut out = self.buffers.take(self.lengths[step.output.0]);
            match &step.work {
                Work::Site(site) => {
                    let parameters = &sites[site.index];
                    let forms = site.forms();
                    let mut sum = self.buffers.take(out.len());
                    let x = value(&tape.values, step.inputs[0]);
                    forms.conv.run(x, &forms.plain, None, &mut sum);
                    let [height, width] = site.output;
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
                    if keep {
                        tape.sums[index] = Some(sum);
                    } else {
                        self.buffers.give(sum);
                    }
                }
                _ => self.plain_step(step, &tape.values, &mut out),
            }
            if known {
                self.buffers.give(out);
            } else {
                tape.values[step.output.0] = Some(out);
            }
            if keep {
                for &value in &step.kept {
                    kept[value.0] = true;
                }
            }
            for released in step.release.iter().filter(|released| !kept[released.0]) {
                self.release(&mut tape.values, *released);
            }
        }
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
        let between = self.between(&tape.segments);
        let mut result = self.zeros(length);
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; self.lengths.len()];
        let mut first = self.buffers.take(self.lengths[self.features.0]);
        first[..gradient.len()].copy_from_slice(gradient);
        first[gradient.len()..].fill(0.0);
        gradients[self.features.0] = Some(first);
        let mut end = self.steps.len();
        for segment in (0..tape.segments.len()).rev() {
            let start = tape.segments[segment];
            if end != self.steps.len() {
                self.segment(start..end, &mut tape, sites, &between, true);
            }
            for index in (start..end).rev() {
                self.step_back(index, &mut tape, sites, &tracked, &mut gradients, &mut result, places);
            }
            // The steps before read nothing of what these made.
            for (step, sum) in self.steps[start..end].iter().zip(&mut tape.sums[start..end]) {
                let value = tape.values[step.output.0].take();
                [value, sum.take()]
                    .into_iter()
                    .flatten()
                    .for_each(|buffer| self.buffers.give(buffer));
            }
            self.between_segments(&tape.segments);
            end = start;
        }
        let rest = tape.values.iter_mut().chain(&mut gradients);
        rest.filter_map(Option::take)
            .for_each(|buffer| self.buffers.give(buffer));
        result
    }

    /// The way back through one step.
    fn step_back(
        &self,
        index: usize,
        tape: &mut Tape,
        sites: &[SiteParameters],
        tracked: &[bool],
        gradients: &mut [Option<Vec<f32>>],
        result: &mut [f32],
        places: &[Range<usize>],
    ) {
        let step = &self.steps[index];
        let Some(mut dy) = gradients[step.output.0].take() else {
            return;
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
                    if let Some(way) = wanted.then(|| site.gradient(self)).flatten() {
                        let mut dx = self.buffers.take(way.input_len());
                        way.run(&dy, &mut dx);
                        self.add(gradients, step.inputs[0], dx);
                    }
                }
                Work::Add(bounds) => {
                    self.clamp_gradient(*bounds, tape.values[step.output.0].as_deref(), &mut dy);
                    let tracked = step.inputs.iter().filter(|input| tracked[input.0]);
                    for input in tracked {
                        let mut copy = self.buffers.take(dy.len());
                        copy.copy_from_slice(&dy);
                        self.add(gradients, *input, copy);
                    }
                }
                _ => {
                    let mut dx = self.buffers.take(self.lengths[step.inputs[0].0]);
                    self.plain_gradient(step, &tape.values, &mut dy, &mut dx);
                    self.add(gradients, step.inputs[0], dx);
                }
            }
        }
        self.buffers.give(dy);
    }

    /// Gives back what a pass without a way back remembered.
    pub(crate) fn forget(&self, mut tape: Tape) {
        let rest = tape.values.iter_mut().chain(&mut tape.sums);
        rest.filter_map(Option::take)
            .for_each(|buffer| self.buffers.give(buffer));
    }

    /// The first step that computes a trained site; the number of steps if no site is trained.
    pub(crate) fn first(&self, sites: &[SiteParameters]) -> usize {
        let trained = |step: &Step| matches!(&step.work, Work::Site(site) if sites[site.index].trained);
        self.steps.iter().position(trained).unwrap_or(self.steps.len())
    }

    /// Values made before step `first` that it or a later one reads.
    pub(super) fn live(&self, first: usize) -> Vec<ValueId> {
        let mut made = vec![false; self.lengths.len()];
        made[ValueId::IMAGE.0] = true;
        self.steps[..first].iter().for_each(|step| made[step.output.0] = true);
        let mut live: Vec<ValueId> = self.steps[first..]
            .iter()
            .flat_map(|step| step.inputs.iter().copied())
            .collect();
        if first == self.steps.len() {
            live.push(self.features);
        }
        live.sort_unstable();
        live.dedup();
        live.retain(|id| made[id.0]);
        live
    }

    /// Which values stay because a segment starts with them.
    pub(super) fn between(&self, segments: &[usize]) -> Vec<bool> {
        let mut between = vec![false; self.lengths.len()];
        if segments.len() > 1 {
            segments
                .iter()
                .flat_map(|&first| self.live(first))
                .for_each(|id| between[id.0] = true);
        }
        between
    }

    /// What [`Body::backward`] gives where nothing has a gradient.
    pub(crate) fn zeros(&self, length: usize) -> Vec<f32> {
        let mut zeros = self.buffers.take(length);
        zeros.fill(0.0);
        zeros
    }

    /// Takes a buffer back that [`Body::backward`] gave.
    pub(crate) fn recycle(&self, buffer: Vec<f32>) {
        self.buffers.give(buffer);
    }

    /// Which values depend on a trained site.
    pub(super) fn tracked(&self, sites: &[SiteParameters]) -> Vec<bool> {
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
        let (size, blocks, bounds) = (site.output, &parameters.blocks, site.bounds);
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
