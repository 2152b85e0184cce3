//! `clr device remove-class`: removes a class that was taught on the device.

use clap::Args;
use clr_transfer::EndpointClient;
use serde::Serialize;

use super::Context;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr device remove-class digits cell --at tcp:robot.local:7171\n\nThe stored images of the class are \
                  removed, too. Classes that come with the publisher's adapter cannot be removed."
)]
pub(super) struct RemoveClassArgs {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// The class
    #[arg(value_name = "LABEL")]
    label: String,
}

#[derive(Serialize)]
struct RemovedClassDocument<'a> {
    action: &'static str,
    task: &'a str,
    label: &'a str,
    /// Number of removed images.
    images: u32,
    done: bool,
}

pub(super) fn run(
    args: &RemoveClassArgs,
    client: &mut EndpointClient<'_>,
    context: &Context<'_>,
) -> anyhow::Result<u8> {
    let RemoveClassArgs { task, label } = args;
    let document = RemovedClassDocument {
        action: "remove-class",
        task,
        label,
        images: client.remove_class(task, label)?.images,
        done: true,
    };
    if context.output.json {
        context.output.document("device", &document)?;
    } else {
        let images = document.images;
        context.output.line(&format!(
            "{task} has no class `{label}` any more; {images} stored images of it are removed"
        ))?;
    }
    Ok(0)
}
