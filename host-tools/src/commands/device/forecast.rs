//! Forecast of a tuning run: its examples, and unmet conditions of a promotion.

use clr_transfer::TuneForecast;
use serde::Serialize;

use super::Context;
use crate::output::human_bytes;

#[derive(Serialize)]
struct ForecastDocument<'a> {
    task: &'a str,
    /// Whether all conditions of a promotion that are known in advance are met.
    can_be_promoted: bool,
    #[serde(flatten)]
    forecast: &'a TuneForecast,
}

fn can_be_promoted(forecast: &TuneForecast) -> bool {
    forecast.lacks.iter().all(|lack| !lack.blocks)
}

/// Prints the forecast as the command's result.
pub(super) fn show(task: &str, forecast: &TuneForecast, context: &Context<'_>) -> anyhow::Result<u8> {
    let output = context.output;
    let can_be_promoted = can_be_promoted(forecast);
    if output.json {
        output.document(
            "device",
            &ForecastDocument {
                task,
                can_be_promoted,
                forecast,
            },
        )?;
        return Ok(0);
    }
    for line in lines(forecast) {
        output.line(&line)?;
    }
    output.line(if can_be_promoted {
        "outlook      the result can be promoted, if it is better"
    } else {
        "outlook      the result cannot be promoted"
    })?;
    Ok(0)
}

/// Logs a warning for each requirement of a run that is not met yet.
pub(super) fn warn(forecast: &TuneForecast) {
    for lack in &forecast.lacks {
        let what = if lack.blocks { "cannot be promoted: " } else { "" };
        tracing::warn!("{what}{}\nhint: {}", lack.what, lack.hint);
    }
}

fn lines(forecast: &TuneForecast) -> Vec<String> {
    let mut lines = Vec::new();
    for class in &forecast.classes {
        let learned = if class.learned { "learned" } else { "existing" };
        lines.push(format!(
            "class        {}: {} images, {} held out for evaluation ({learned})",
            class.label, class.images, class.held_out
        ));
    }
    lines.push(format!(
        "evaluation   {} images evaluate the existing classes, {} are needed; {} frames are stored",
        forecast.judges, forecast.judges_needed, forecast.frames
    ));
    if let Some(plan) = &forecast.plan {
        let memory = forecast.memory.map(|bytes| format!(", {}", human_bytes(bytes)));
        lines.push(format!(
            "plan         {} steps, {plan}{}",
            forecast.steps,
            memory.unwrap_or_default()
        ));
    }
    for lack in &forecast.lacks {
        let word = if lack.blocks { "lacks" } else { "weak" };
        lines.push(format!("{word:<12} {}", lack.what));
        lines.push(format!("             hint: {}", lack.hint));
    }
    lines
}
