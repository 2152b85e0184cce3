//! Compilation of a program's steps to kernels.

use std::collections::HashMap;

use clr_kernels::{Int8Form, Isa, LANES, PoolKind};
use clr_onnx::{ConvStep, Op, Program, Quantisation, Shape, StepOp, ValueId};

use crate::{
    Executable, ExecutableOptions, RuntimeError,
    convolution::Convolution,
    executable::{BlockOutput, Step, Work},
    integer::{self, Stored},
    memory::Buffers,
    operators::{Block, Context, Operator, Reads, activation::Activate, blocked_len, plane, pool_shape, prepare, size},
};

/// Channels of a pixel of the image in bytes.
const PIXEL_BYTES: usize = 4;

impl Executable {
    /// Compiles `program`.
    ///
    /// # Errors
    /// [`RuntimeError::Unsupported`], with the first node that the runtime does not support.
    pub fn new(program: &Program, options: &ExecutableOptions) -> Result<Self, RuntimeError> {
        let mut compiler = Compiler::new(program, options);
        for step in &program.steps {
            compiler.step(step)?;
        }
        Ok(compiler.finish())
    }
}

/// A compilation in progress. Values after those of the program are conversions of its values.
struct Compiler<'a> {
    program: &'a Program,
    options: &'a ExecutableOptions,
    context: Context,
    steps: Vec<Step>,
    lengths: Vec<usize>,
    /// The image as the first step reads it.
    entry: ValueId,
    /// How each value of the program is stored.
    stored: Vec<Stored>,
    /// Real values in blocks of values that are stored otherwise.
    real: HashMap<ValueId, ValueId>,
    /// Bytes of values on a grid that are stored as real values.
    bytes: HashMap<ValueId, ValueId>,
}

impl<'a> Compiler<'a> {
    fn new(program: &'a Program, options: &'a ExecutableOptions) -> Self {
        let mut lengths: Vec<usize> = program.shapes.iter().map(|shape| blocked_len(*shape)).collect();
        lengths[ValueId::IMAGE.0] = program.image().iter().product();
        let mut stored = vec![Stored::Real; lengths.len()];
        stored[ValueId::IMAGE.0] = Stored::Pixels;
        Self {
            context: Context {
                // Bytes promise the same bits on every machine, and the steps between them keep the promise.
                isa: if options.integer { Isa::exact() } else { Isa::detect() },
                threads: options.threads,
                arena: options.arena.clone(),
            },
            entry: ValueId::IMAGE,
            steps: Vec::with_capacity(program.steps.len() + 1),
            lengths,
            stored,
            real: HashMap::new(),
            bytes: HashMap::new(),
            program,
            options,
        }
    }

    fn step(&mut self, step: &clr_onnx::Step) -> Result<(), RuntimeError> {
        let on_bytes = self.options.integer && self.on_bytes(step)?;
        if !on_bytes {
            self.on_real_values(step)?;
        }
        Ok(())
    }

    /// Adds a step that computes on real values.
    fn on_real_values(&mut self, step: &clr_onnx::Step) -> Result<(), RuntimeError> {
        let shapes = self.shapes(step);
        let output = self.shape(step.output);
        let (work, reads, differentiable, inputs) = match &step.op {
            StepOp::Conv(conv) => {
                // The image has so few channels that a block of sixteen would be mostly padding, so convolutions read
                // its pixels directly.
                let image = self.stored[step.inputs[0].0] == Stored::Pixels;
                let pixels = image && shapes[0].channels() < LANES / 2;
                let inputs: Vec<ValueId> = (step.inputs.iter().enumerate())
                    .map(|(index, &input)| {
                        if index == 0 && pixels {
                            input
                        } else {
                            self.real(input, &step.name)
                        }
                    })
                    .collect();
                let conv = self.convolution(step, conv, pixels, None)?;
                let reads = conv.reads();
                (Work::Convolution(Box::new(conv)), reads, true, inputs)
            }
            op => {
                let operator = prepare(&step.name, op, step.grid, &shapes, output, &self.context)?;
                let (reads, differentiable) = (operator.reads(), operator.is_differentiable());
                let inputs = step.inputs.iter().map(|&input| self.real(input, &step.name)).collect();
                (Work::Operator(operator), reads, differentiable, inputs)
            }
        };
        self.steps.push(Step {
            name: step.name.clone(),
            work,
            inputs,
            output: step.output,
            last_uses: Vec::new(),
            reads,
            differentiable,
        });
        Ok(())
    }

    /// Adds a step that computes on bytes, if it can.
    fn on_bytes(&mut self, step: &clr_onnx::Step) -> Result<bool, RuntimeError> {
        if let StepOp::Conv(conv) = &step.op {
            return self.convolution_of_bytes(step, conv);
        }
        let grids: Option<Vec<Quantisation>> = step.inputs.iter().map(|&input| self.grid(input)).collect();
        let context = self.context.clone();
        let shapes = self.shapes(step);
        let activation = |activation| Activate::of(activation).filter(|activation| activation.smooth.is_none());
        let (operator, stored): (Box<dyn Operator>, Stored) = match (&step.op, grids.as_deref(), step.grid) {
            (StepOp::Node(Op::FakeQuantise(grid)), _, _) => {
                self.quantise(step, *grid);
                return Ok(true);
            }
            (StepOp::Add { activation: own }, Some(&[left, right]), Some(grid)) if shapes[0] == shapes[1] => {
                let Some(activation) = activation(*own) else {
                    return Ok(false);
                };
                let add = integer::AddBytes {
                    inputs: [left, right],
                    grid,
                    bounds: activation.bounds,
                    context,
                };
                (Box::new(add), Stored::Bytes(grid))
            }
            (StepOp::Gather { index }, Some(grids), grid) => {
                let Some(grid) = grid.or_else(|| {
                    grids
                        .first()
                        .copied()
                        .filter(|first| grids.iter().all(|own| own == first))
                }) else {
                    return Ok(false);
                };
                let inputs: Vec<(Shape, Quantisation)> = shapes.iter().copied().zip(grids.iter().copied()).collect();
                let pixels = plane(self.shape(step.output)) / LANES;
                let gather = integer::GatherBytes::new(index, &inputs, grid, pixels);
                (Box::new(gather), Stored::Bytes(grid))
            }
            (StepOp::Node(Op::MaxPool(window)), Some(&[input]), own) if own.is_none_or(|own| own == input) => {
                let shape = pool_shape(window, PoolKind::Max, shapes[0], self.shape(step.output));
                let pool = integer::PoolBytes {
                    shape,
                    input,
                    grid: input,
                    context,
                };
                (Box::new(pool), Stored::Bytes(input))
            }
            (StepOp::Node(Op::AveragePool(window)), Some(&[input]), Some(grid)) => {
                let include_pad = window.count_include_pad;
                let kind = PoolKind::Average { include_pad };
                let shape = pool_shape(window, kind, shapes[0], self.shape(step.output));
                let pool = integer::PoolBytes {
                    shape,
                    input,
                    grid,
                    context,
                };
                (Box::new(pool), Stored::Bytes(grid))
            }
            (op @ StepOp::Node(Op::Activation(_)), Some(&[input]), Some(grid)) => {
                let real = prepare(
                    &step.name,
                    op,
                    Some(grid),
                    &shapes,
                    self.shape(step.output),
                    &self.context,
                )?;
                (Box::new(integer::Lookup::new(&*real, input, grid)), Stored::Bytes(grid))
            }
            (StepOp::Node(Op::GlobalAveragePool), Some(&[input]), None) => {
                let mean = integer::MeanOfBytes {
                    plane: plane(shapes[0]),
                    input,
                    context,
                };
                (Box::new(mean), Stored::Real)
            }
            _ => return Ok(false),
        };
        let inputs = step.inputs.iter().map(|&input| self.bytes(input, &step.name)).collect();
        self.push(&step.name, operator, inputs, step.output);
        self.store(step.output, stored);
        Ok(true)
    }

    /// Adds the rounding of a value as its conversion to bytes.
    fn quantise(&mut self, step: &clr_onnx::Step, grid: Quantisation) {
        let (input, context) = (step.inputs[0], self.context.clone());
        let image = self.stored[input.0] == Stored::Pixels && self.shape(input).channels() <= PIXEL_BYTES;
        let readers = |value| {
            self.program
                .steps
                .iter()
                .filter(move |other| other.inputs.contains(&value))
        };
        let stem =
            |op: &StepOp| matches!(op, StepOp::Conv(conv) if conv.conv.weight.int8().is_some() && conv.conv.group == 1);
        let alone = readers(input).count() == 1 && step.output != self.program.features;
        if image && alone && readers(step.output).all(|reader| stem(&reader.op)) {
            // The image itself is not stored then, because nothing else reads it.
            self.entry = step.output;
            self.store(step.output, Stored::PixelBytes(grid));
        } else {
            let input = self.real(input, &step.name);
            self.push(
                &step.name,
                Box::new(integer::Quantise { grid, context }),
                vec![input],
                step.output,
            );
            self.store(step.output, Stored::Bytes(grid));
        }
    }

    fn convolution_of_bytes(&mut self, step: &clr_onnx::Step, conv: &ConvStep) -> Result<bool, RuntimeError> {
        let weight = conv.conv.weight.int8().filter(|weight| integer::sums_fit(weight));
        let (Some(input), Some(_)) = (self.grid(step.inputs[0]), weight) else {
            return Ok(false);
        };
        let unsupported = || RuntimeError::unsupported(&step.name, "the runtime lacks its activation");
        let activation = Activate::of(conv.activation).ok_or_else(unsupported)?;
        let shortcut = step.inputs.get(1).copied();
        let shortcut_grid = shortcut.map(|shortcut| self.grid(shortcut));
        let result = match (step.grid, shortcut_grid) {
            (Some(grid), None | Some(Some(_))) if activation.smooth.is_none() => integer::Result::Bytes {
                grid,
                bounds: activation.bounds,
                shortcut: shortcut_grid.flatten(),
                inner: conv.inner,
            },
            // The rest of the step is computed on real values.
            _ if conv.inner.is_some() => integer::Result::Real {
                bounds: Activate::NONE.bounds,
            },
            _ => integer::Result::Real {
                bounds: activation.rounded(step.grid).bounds,
            },
        };
        let form = match self.stored[step.inputs[0].0] {
            Stored::PixelBytes(_) => Int8Form::Image,
            _ => Int8Form::Blocks,
        };
        let mut inputs = vec![self.bytes(step.inputs[0], &step.name)];
        let stored = match (result, step.grid) {
            (integer::Result::Bytes { grid, .. }, _) => {
                inputs.extend(shortcut.map(|shortcut| self.bytes(shortcut, &step.name)));
                Stored::Bytes(grid)
            }
            (integer::Result::Real { .. }, _) => {
                inputs.extend(shortcut.map(|shortcut| self.real(shortcut, &step.name)));
                Stored::Real
            }
        };
        let integer = integer::IntegerConv::new(input, form, result);
        let conv = self.convolution(step, conv, form == Int8Form::Image, Some(integer))?;
        self.steps.push(Step {
            name: step.name.clone(),
            work: Work::Convolution(Box::new(conv)),
            inputs,
            output: step.output,
            last_uses: Vec::new(),
            reads: Reads::NOTHING,
            differentiable: false,
        });
        self.store(step.output, stored);
        Ok(true)
    }

    fn convolution(
        &self,
        step: &clr_onnx::Step,
        conv: &ConvStep,
        pixels: bool,
        integer: Option<integer::IntegerConv>,
    ) -> Result<Convolution, RuntimeError> {
        let activation = Activate::of(conv.activation)
            .ok_or_else(|| RuntimeError::unsupported(&step.name, "the runtime lacks its activation"))?
            .rounded(step.grid);
        let sizes = [step.inputs[0], step.output].map(|value| size(self.shape(value)));
        let weights = &self.options.weights;
        let new = Convolution::new(conv, sizes, pixels, activation, integer, weights, &self.context);
        new.map_err(|channel| RuntimeError::range(&step.name, channel))
    }

    /// Returns the grid on which a value lies, if it can be stored as bytes.
    fn grid(&self, value: ValueId) -> Option<Quantisation> {
        match self.stored[value.0] {
            Stored::Bytes(grid) | Stored::PixelBytes(grid) => Some(grid),
            Stored::Pixels => None,
            Stored::Real => self.program.steps.iter().find(|step| step.output == value)?.grid,
        }
    }

    /// Returns a value on a grid as bytes.
    fn bytes(&mut self, value: ValueId, reader: &str) -> ValueId {
        let (Stored::Real, Some(grid)) = (self.stored[value.0], self.grid(value)) else {
            return value;
        };
        if let Some(&bytes) = self.bytes.get(&value) {
            return bytes;
        }
        let bytes = self.extra(integer::values(self.lengths[value.0]));
        let context = self.context.clone();
        let name = format!("bytes for {reader}");
        self.push(&name, Box::new(integer::Quantise { grid, context }), vec![value], bytes);
        self.bytes.insert(value, bytes);
        bytes
    }

    /// Returns a value as real values in blocks.
    fn real(&mut self, value: ValueId, reader: &str) -> ValueId {
        if self.stored[value.0] == Stored::Real {
            return value;
        }
        if let Some(&real) = self.real.get(&value) {
            return real;
        }
        let shape = self.shape(value);
        let context = self.context.clone();
        let (name, operator, reads): (_, Box<dyn Operator>, _) = match self.stored[value.0] {
            Stored::Bytes(grid) => {
                let operator = integer::Dequantise { grid, context };
                (format!("real values for {reader}"), Box::new(operator), value)
            }
            Stored::PixelBytes(_) => unreachable!("only convolutions of bytes read an image in bytes"),
            Stored::Real | Stored::Pixels => {
                let channels = shape.channels();
                (
                    format!("image of {reader}"),
                    Box::new(Block { channels }),
                    ValueId::IMAGE,
                )
            }
        };
        let real = self.extra(blocked_len(shape));
        self.push(&name, operator, vec![reads], real);
        self.real.insert(value, real);
        real
    }

    /// Returns a new value of `length` f32.
    fn extra(&mut self, length: usize) -> ValueId {
        self.lengths.push(length);
        ValueId(self.lengths.len() - 1)
    }

    fn push(&mut self, name: &str, operator: Box<dyn Operator>, inputs: Vec<ValueId>, output: ValueId) {
        self.steps.push(Step {
            name: name.to_owned(),
            reads: operator.reads(),
            differentiable: operator.is_differentiable(),
            work: Work::Operator(operator),
            inputs,
            output,
            last_uses: Vec::new(),
        });
    }

    /// Notes how a value is stored.
    fn store(&mut self, value: ValueId, stored: Stored) {
        let shape = self.shape(value);
        self.stored[value.0] = stored;
        self.lengths[value.0] = match stored {
            Stored::Real | Stored::Pixels => self.lengths[value.0],
            Stored::Bytes(_) => integer::values(blocked_len(shape)),
            Stored::PixelBytes(_) => integer::values(plane(shape) / LANES * PIXEL_BYTES),
        };
    }

    fn shape(&self, value: ValueId) -> Shape {
        self.program.shapes[value.0]
    }

    fn shapes(&self, step: &clr_onnx::Step) -> Vec<Shape> {
        step.inputs.iter().map(|&input| self.shape(input)).collect()
    }

    fn finish(mut self) -> Executable {
        let program = self.program;
        let features = self.real(program.features, "the features");
        let mut steps = self.steps;
        find_last_uses(&mut steps, self.lengths.len(), features);
        Executable {
            block_outputs: block_outputs(program, &steps, &self.stored),
            steps,
            lengths: self.lengths,
            entry: self.entry,
            features,
            feature_count: program.feature_count(),
            image: program.image(),
            sites: program.sites,
            isa: self.context.isa,
            integer: self.options.integer,
            stored: self.stored,
            arena: self.context.arena,
            buffers: Buffers::default(),
        }
    }
}

/// Returns the block outputs of a program with these steps.
fn block_outputs(program: &Program, steps: &[Step], stored: &[Stored]) -> Vec<BlockOutput> {
    let find = |value| steps.iter().position(|step| step.output == value);
    let outputs = program.block_outputs().into_iter().filter_map(|value| {
        Some(BlockOutput {
            value,
            steps: find(value)? + 1,
            channels: program.shapes[value.0].channels(),
            grid: stored[value.0].bytes(),
        })
    });
    outputs.collect()
}

/// Computes the last uses. Conversions are values that the program does not have, so its own list does not apply.
fn find_last_uses(steps: &mut [Step], values: usize, features: ValueId) {
    let mut seen = vec![false; values];
    seen[features.0] = true;
    for step in steps.iter_mut().rev() {
        for &input in &step.inputs {
            if !std::mem::replace(&mut seen[input.0], true) {
                step.last_uses.push(input);
            }
        }
    }
}
