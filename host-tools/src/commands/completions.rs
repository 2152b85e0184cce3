//! `clr completions`.

use clap::Args;

use super::Context;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr completions bash > ~/.local/share/bash-completion/completions/clr")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(serde::Serialize)]
struct Completions {
    shell: String,
    script: String,
}

/// Prints the completions of `command`.
pub(crate) fn run(args: &CompletionsArgs, mut command: clap::Command, context: &Context<'_>) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "clr", &mut script);
    let script = String::from_utf8(script)?;
    if context.output.json {
        context.output.document(
            "completions",
            &Completions {
                shell: args.shell.to_string(),
                script,
            },
        )?;
    } else {
        context.output.line(script.trim_end())?;
    }
    Ok(0)
}
