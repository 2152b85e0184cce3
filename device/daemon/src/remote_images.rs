//! Commands `teach` and `examples`, sent to the device on this machine.

use std::path::{Path, PathBuf};

use clap::Args;
use clr_transfer::{ClientError, EndpointClient, ExampleSelection, FailureCode, TeachBatch, TeachPhase};

use super::{
    control_target::{RemoteError, Target, print},
    print_line,
};

#[derive(Args, Debug)]
pub(super) struct TeachArgs {
    /// The task
    #[arg(short, long, value_name = "NAME")]
    task: String,
    /// Class of the images
    #[arg(short, long, value_name = "LABEL")]
    label: String,
    /// The images: JPEG, PNG, BMP, WebP or GIF
    #[arg(required = true, value_name = "FILE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Args, Debug)]
pub(super) struct ExamplesArgs {
    /// The task [default: list the tasks with stored images]
    task: Option<String>,
    /// Write this image to a file (--output)
    #[arg(long, value_name = "ID", requires_all = ["task", "output"])]
    show: Option<String>,
    /// File to write the image to
    #[arg(short, long, value_name = "FILE", requires = "show")]
    output: Option<PathBuf>,
    /// Remove these images, by their digests
    #[arg(long, value_name = "ID", requires = "task", conflicts_with = "show")]
    remove: Vec<String>,
    /// Remove all images of this label
    #[arg(long, value_name = "LABEL", requires = "task", conflicts_with_all = ["show", "remove"])]
    remove_label: Option<String>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(serde::Serialize)]
struct ExampleTasks {
    tasks: Vec<clr_transfer::ExampleTask>,
}

#[derive(serde::Serialize)]
struct Examples {
    task: String,
    examples: Vec<clr_transfer::ExampleSummary>,
}

pub(super) fn teach(args: &TeachArgs, client: &mut EndpointClient<'_>) -> Result<(), RemoteError> {
    let label = args.label.trim();
    let mut batch = client.begin_batch(&args.task, label)?;
    let mut skipped = 0;
    for path in &args.images {
        match add_one(path, &mut batch, client) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                skipped += 1;
                eprintln!("skipped: '{}': {reason}", path.display());
            }
            Err(error) => {
                // All images of the class, or none of them.
                client.undo_batch(&batch);
                return Err(error.into());
            }
        }
    }
    if batch.is_empty() {
        return Err(RemoteError::Other(format!(
            "none of the {skipped} images could be added"
        )));
    }
    let status = client.finish_batch(&batch)?;
    let message = status.message.unwrap_or_default();
    if matches!(status.phase, TeachPhase::Refused | TeachPhase::Failed) {
        let hint = status.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let failure = clr_transfer::Failure::new(FailureCode::TUNING, format_args!("{message}{hint}"));
        return Err(ClientError::Refused(failure).into());
    }
    print_line(format_args!(
        "{} images added with label `{label}` to task `{}`, {} already stored, {skipped} skipped",
        batch.added() + batch.relabelled(),
        args.task,
        batch.duplicates()
    ))?;
    print_line(format_args!("{message}"))?;
    Ok(())
}

/// Adds one image, scaled down to the device's limit if necessary. The inner error is the reason why the image is
/// skipped.
fn add_one(
    path: &Path,
    batch: &mut TeachBatch,
    client: &mut EndpointClient<'_>,
) -> Result<Result<(), String>, ClientError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(format!("cannot be read: {error}"))),
    };
    let start = bytes.get(..clr_onnx::FILE_HEAD).unwrap_or(&bytes);
    if let clr_onnx::FileKind::Unread { name, advice } = clr_onnx::FileKind::of(path, start) {
        return Ok(Err(format!("{name} is not supported; {advice}")));
    }
    let limits = batch.limits;
    let shrunk = match clr_onnx::shrink_to_fit(bytes, "the file", limits.image_bytes, limits.input) {
        Ok(shrunk) => shrunk,
        Err(error) => return Ok(Err(error.to_string())),
    };
    client.add_to_batch(batch, &shrunk.bytes).map(Ok)
}

pub(super) fn examples(args: &ExamplesArgs, client: &mut EndpointClient<'_>) -> Result<(), RemoteError> {
    let Some(task) = &args.task else {
        return print(&ExampleTasks {
            tasks: client.example_tasks()?,
        });
    };
    if let Some(label) = &args.remove_label {
        return print(&client.remove_examples(task, ExampleSelection::Label(label.clone()))?);
    }
    let listed = client.examples(task)?;
    let find = |start: &str| {
        let start = start.to_lowercase();
        let mut found = listed
            .iter()
            .filter(|example| example.id.to_string().starts_with(&start));
        match (found.next(), found.next()) {
            (Some(example), None) => Ok(example.id),
            _ => Err(RemoteError::Other(format!(
                "expected one image of task `{task}` whose digest begins with {start}\nhint: clr-device examples {task}"
            ))),
        }
    };
    if let (Some(id), Some(output)) = (&args.show, &args.output) {
        let pulled = client.pull_example(task, find(id)?, u64::MAX, &mut |_| ())?;
        return std::fs::write(output, &pulled.bytes)
            .map_err(|error| RemoteError::Other(format!("cannot write '{}': {error}", output.display())));
    }
    if !args.remove.is_empty() {
        let ids = args.remove.iter().map(|id| find(id)).collect::<Result<Vec<_>, _>>()?;
        let mut removed = clr_transfer::RemovedExamples::default();
        for id in ids {
            let one = client.remove_examples(task, ExampleSelection::Image(id))?;
            removed.images += one.images;
            removed.without_images.extend(one.without_images);
        }
        return print(&removed);
    }
    print(&Examples {
        task: task.clone(),
        examples: listed,
    })
}
