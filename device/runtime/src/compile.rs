//! Compilation of a program's steps to kernels.

use clr_kernels::{Isa, LANES};
use clr_onnx::{Program, Shape, StepOp, ValueId};

use crate::{
    Executable, ExecutableOptions, RuntimeError,
    convolution::Convolution,
    executable::{BlockOutput, Step, Work},
    memory::Buffers,
    operators::{Block, Context, Reads, activation::Activate, blocked_len, prepare, size},
};

impl Executable {
    /// Compiles `program`.
    ///
    /// # Errors
    /// [`RuntimeError::Unsupported`], with the first node that the runtime does not support.
    pub fn new(program: &Program, options: &ExecutableOptions) -> Result<Self, RuntimeError> {
        compile(program, options)
    }
}

fn compile(program: &Program, options: &ExecutableOptions) -> Result<Executable, RuntimeError> {
    let context = Context {
        isa: Isa::detect(),
        threads: options.threads,
        arena: options.arena.clone(),
    };
    let image = program.image();
    let mut lengths: Vec<usize> = program.shapes.iter().map(|shape| blocked_len(*shape)).collect();
    let blocked_image = ValueId(lengths.len());
    let mut steps = Vec::with_capacity(program.steps.len() + 1);
    // The image has so few channels that a block of sixteen would be mostly padding, so convolutions read its pixels
    // directly.
    let reads_pixels = |op: &StepOp| matches!(op, StepOp::Conv(_)) && image[0] < LANES / 2;
    let blocks = |step: &clr_onnx::Step| step.inputs.contains(&ValueId::IMAGE) && !reads_pixels(&step.op);
    if let Some(first) = program.steps.iter().find(|step| blocks(step)) {
        lengths.push(lengths[ValueId::IMAGE.0]);
        steps.push(Step {
            name: format!("image of {}", first.name),
            work: Work::Operator(Box::new(Block { channels: image[0] })),
            inputs: vec![ValueId::IMAGE],
            output: blocked_image,
            last_uses: Vec::new(),
            reads: Reads::NOTHING,
            differentiable: true,
        });
    }
    lengths[ValueId::IMAGE.0] = image.iter().product();
    for step in &program.steps {
        let shapes: Vec<Shape> = step.inputs.iter().map(|input| program.shapes[input.0]).collect();
        let output = program.shapes[step.output.0];
        let pixels = step.inputs.contains(&ValueId::IMAGE) && reads_pixels(&step.op);
        let (work, reads, differentiable) = match &step.op {
            StepOp::Conv(conv) => {
                let activation = Activate::of(conv.activation)
                    .ok_or_else(|| RuntimeError::unsupported(&step.name, "the runtime lacks its activation"))?
                    .rounded(step.grid);
                let conv = Convolution::new(
                    conv,
                    size(shapes[0]),
                    size(output),
                    pixels,
                    activation,
                    &options.weights,
                    &context,
                );
                let reads = conv.reads();
                (Work::Convolution(Box::new(conv)), reads, true)
            }
            op => {
                let operator = prepare(&step.name, op, step.grid, &shapes, output, &context)?;
                let (reads, differentiable) = (operator.reads(), operator.is_differentiable());
                (Work::Operator(operator), reads, differentiable)
            }
        };
        let inputs = step.inputs.iter().map(|&input| {
            if input == ValueId::IMAGE && !pixels {
                blocked_image
            } else {
                input
            }
        });
        steps.push(Step {
            name: step.name.clone(),
            work,
            inputs: inputs.collect(),
            output: step.output,
            last_uses: Vec::new(),
            reads,
            differentiable,
        });
    }
    find_last_uses(&mut steps, lengths.len(), program.features);
    Ok(Executable {
        block_outputs: block_outputs(program, &steps),
        steps,
        lengths,
        features: program.features,
        feature_count: program.feature_count(),
        image,
        sites: program.sites,
        isa: context.isa,
        arena: context.arena,
        buffers: Buffers::default(),
    })
}

/// Returns the block outputs of a program with these steps.
fn block_outputs(program: &Program, steps: &[Step]) -> Vec<BlockOutput> {
    let find = |value| steps.iter().position(|step| step.output == value);
    let outputs = program.block_outputs().into_iter().filter_map(|value| {
        Some(BlockOutput {
            value,
            steps: find(value)? + 1,
            channels: program.shapes[value.0].channels(),
        })
    });
    outputs.collect()
}

/// Recomputes the last uses. The image may have become two values, so the program's own list does not apply.
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
