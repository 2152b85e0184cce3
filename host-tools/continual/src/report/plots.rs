//! Plots as SVG: the first task after each task, average accuracies, and accuracy over stored bytes.

use plotters::{coord::Shift, prelude::*, style::text_anchor};

use super::{
    backbones::Backbones,
    results::{MethodSummary, Spread},
    summary::Summary,
};
use crate::error::{ContinualError, Result};

/// Colours that are distinct with any colour vision. Methods of the same colour have different marks.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(150, 120, 0),
    RGBColor(86, 160, 210),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];
const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(228, 228, 228);

fn plot_error(error: impl std::fmt::Display) -> ContinualError {
    ContinualError::Plot(error.to_string())
}

/// Returns the colour of method number `index`.
fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Returns the mark of method number `index`: a dot, a ring or a large dot.
fn mark<C>(index: usize, point: C) -> Circle<C, i32> {
    let (radius, style) = match index / COLOURS.len() {
        0 => (3, colour(index).filled()),
        1 => (5, colour(index).stroke_width(2)),
        _ => (6, colour(index).filled()),
    };
    Circle::new(point, radius, style)
}

/// Draws on a white page.
fn drawn(size: (u32, u32), draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(plot_error)?;
        draw(&area)?;
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

/// Draws the names of methods with their marks, one below the other.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, names: &[&str]) -> Result<()> {
    let text = (FONT, 12).into_font().color(&BLACK).pos(text_anchor::Pos::new(
        text_anchor::HPos::Left,
        text_anchor::VPos::Center,
    ));
    for (index, name) in names.iter().enumerate() {
        let y = 24 + 20 * index as i32;
        let line = PathElement::new([(4, y), (28, y)], colour(index).stroke_width(2));
        area.draw(&line).map_err(plot_error)?;
        area.draw(&mark(index, (16, y))).map_err(plot_error)?;
        area.draw_text(name, &text, (36, y)).map_err(plot_error)?;
    }
    Ok(())
}

fn percent(value: f64) -> f64 {
    100.0 * value
}

/// Draws the accuracy on the first task after each task.
///
/// # Errors
/// [`ContinualError::Plot`] if nothing can be drawn.
pub fn first_task_svg(summary: &Summary) -> Result<String> {
    let methods: Vec<&MethodSummary> = summary.methods.iter().collect();
    let names: Vec<&str> = methods.iter().map(|method| method.method.as_str()).collect();
    let height = (60 + 20 * names.len() as u32).max(420);
    drawn((760, height), |area| {
        let (plot, side) = area.split_horizontally(600);
        let last = summary.tasks.len().max(2);
        let mut chart = ChartBuilder::on(&plot)
            .caption("Accuracy on the first task after each task, in %", (FONT, 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d(1.0..last as f64, 0.0..100.0)
            .map_err(plot_error)?;
        (chart.configure_mesh().light_line_style(WHITE).bold_line_style(GRID))
            .x_labels(last)
            .x_label_formatter(&|tasks| format!("{tasks:.0}"))
            .x_desc("tasks learned")
            .label_style((FONT, 12))
            .draw()
            .map_err(plot_error)?;
        for (index, method) in methods.iter().enumerate() {
            let points = method.first_task.iter().enumerate();
            let points: Vec<(f64, f64)> = points
                .filter_map(|(after, spread)| Some(((after + 1) as f64, percent(spread.as_ref()?.mean))))
                .collect();
            let line = LineSeries::new(points.iter().copied(), colour(index).stroke_width(2));
            chart.draw_series(line).map_err(plot_error)?;
            let marks = points.iter().map(|&point| mark(index, point));
            chart.draw_series(marks).map_err(plot_error)?;
        }
        legend(&side, &names)
    })
}

/// Draws the mean accuracy on all tasks after the last one, with the standard deviation over seeds.
///
/// # Errors
/// [`ContinualError::Plot`] if nothing can be drawn.
pub fn average_accuracy_svg(summary: &Summary) -> Result<String> {
    let mut bars: Vec<(&str, Spread)> = (summary.methods.iter())
        .filter_map(|method| Some((method.method.as_str(), method.average_accuracy?)))
        .collect();
    bars.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
    let (left, width, step) = (130, 520, 24);
    drawn((760, 70 + step * bars.len().max(1) as u32), |area| {
        let title = (FONT, 16).into_font().color(&BLACK);
        area.draw_text("Average accuracy after the last task, in %", &title, (12, 12))
            .map_err(plot_error)?;
        let position = |horizontal| text_anchor::Pos::new(horizontal, text_anchor::VPos::Center);
        let right = (FONT, 12)
            .into_font()
            .color(&BLACK)
            .pos(position(text_anchor::HPos::Right));
        let start = (FONT, 12)
            .into_font()
            .color(&BLACK)
            .pos(position(text_anchor::HPos::Left));
        for (row, (name, spread)) in bars.iter().enumerate() {
            let y = 48 + step as i32 * row as i32;
            let x = |value: f64| left + (f64::from(width) * value.clamp(0.0, 1.0)) as i32;
            let colour = if name.starts_with("clr") {
                COLOURS[1]
            } else {
                COLOURS[0]
            };
            let bar = Rectangle::new([(left, y), (x(spread.mean), y + 16)], colour.filled());
            area.draw(&bar).map_err(plot_error)?;
            if let Some(deviation) = spread.deviation {
                let [low, high] = [spread.mean - deviation, spread.mean + deviation].map(x);
                let line = PathElement::new([(low, y + 8), (high, y + 8)], BLACK.stroke_width(2));
                area.draw(&line).map_err(plot_error)?;
            }
            area.draw_text(name, &right, (left - 8, y + 8)).map_err(plot_error)?;
            let text = spread.percent();
            let after = x(spread.mean + spread.deviation.unwrap_or(0.0)) + 8;
            area.draw_text(&text, &start, (after, y + 8)).map_err(plot_error)?;
        }
        Ok(())
    })
}

/// Draws the final mean accuracy over the bytes that one more task stores, head included.
///
/// # Errors
/// [`ContinualError::Plot`] if nothing can be drawn.
pub fn accuracy_over_size_svg(summary: &Summary) -> Result<String> {
    let methods: Vec<&MethodSummary> = summary
        .methods
        .iter()
        .filter(|method| method.average_accuracy.is_some())
        .collect();
    let names: Vec<&str> = methods.iter().map(|method| method.method.as_str()).collect();
    let kilobytes = |method: &MethodSummary| ((method.bytes_per_task + method.head_bytes_per_task) / 1e3).max(0.1);
    let most = methods.iter().map(|method| kilobytes(method)).fold(1.0, f64::max);
    let least = methods.iter().map(|method| kilobytes(method)).fold(most, f64::min);
    let lowest = (methods.iter())
        .filter_map(|method| Some(percent(method.average_accuracy?.mean)))
        .fold(100.0, f64::min);
    let height = (60 + 20 * names.len() as u32).max(420);
    drawn((760, height), |area| {
        let (plot, side) = area.split_horizontally(600);
        let mut chart = ChartBuilder::on(&plot)
            .caption("Average accuracy over kB per task", (FONT, 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d(
                (least / 2.0..most * 2.0).log_scale(),
                (lowest / 10.0).floor() * 10.0..100.0,
            )
            .map_err(plot_error)?;
        (chart.configure_mesh().light_line_style(WHITE).bold_line_style(GRID))
            .x_desc("kB per task, head included")
            .y_desc("accuracy in %")
            .label_style((FONT, 12))
            .draw()
            .map_err(plot_error)?;
        for (index, method) in methods.iter().enumerate() {
            if let Some(spread) = method.average_accuracy {
                let point = (kilobytes(method), percent(spread.mean));
                chart.draw_series([mark(index, point)]).map_err(plot_error)?;
            }
        }
        legend(&side, &names)
    })
}

/// Draws the average accuracy of each method on each backbone, one row per method.
///
/// # Errors
/// [`ContinualError::Plot`] if nothing can be drawn.
pub fn backbones_svg(backbones: &Backbones) -> Result<String> {
    let (left, width, step, top) = (130, 520, 24, 72 + 20 * backbones.backbones.len() as i32);
    let height = top + step * backbones.methods.len().max(1) as i32 + 40;
    let spreads = (backbones.methods.iter()).flat_map(|method| method.average_accuracy.iter().flatten());
    let lowest = spreads.map(|spread| spread.mean - spread.deviation.unwrap_or(0.0));
    let lowest = (10.0 * lowest.fold(0.9, f64::min)).floor().max(0.0) / 10.0;
    drawn((760, height as u32), |area| {
        let title = (FONT, 16).into_font().color(&BLACK);
        area.draw_text("Average accuracy after the last task, in %", &title, (12, 12))
            .map_err(plot_error)?;
        let text = |horizontal| {
            let position = text_anchor::Pos::new(horizontal, text_anchor::VPos::Center);
            (FONT, 12).into_font().color(&BLACK).pos(position)
        };
        for (index, name) in backbones.backbones.iter().enumerate() {
            let y = 48 + 20 * index as i32;
            area.draw(&mark(index, (left, y))).map_err(plot_error)?;
            area.draw_text(name, &text(text_anchor::HPos::Left), (left + 12, y))
                .map_err(plot_error)?;
        }
        let x = |value: f64| left + (f64::from(width) * (value.clamp(lowest, 1.0) - lowest) / (1.0 - lowest)) as i32;
        let bottom = top + step * backbones.methods.len() as i32;
        let tenths = (10.0 * lowest).round() as i32;
        for tenth in tenths..=10 {
            let at = x(f64::from(tenth) / 10.0);
            let line = PathElement::new([(at, top - 12), (at, bottom)], GRID.stroke_width(1));
            area.draw(&line).map_err(plot_error)?;
            let label = (10 * tenth).to_string();
            area.draw_text(&label, &text(text_anchor::HPos::Center), (at, bottom + 14))
                .map_err(plot_error)?;
        }
        for (row, method) in backbones.methods.iter().enumerate() {
            let y = top + step * row as i32;
            area.draw_text(&method.method, &text(text_anchor::HPos::Right), (left - 12, y))
                .map_err(plot_error)?;
            for (index, spread) in method.average_accuracy.iter().enumerate() {
                let Some(spread) = spread else { continue };
                if let Some(deviation) = spread.deviation {
                    let [low, high] = [spread.mean - deviation, spread.mean + deviation].map(x);
                    let line = PathElement::new([(low, y), (high, y)], colour(index).stroke_width(2));
                    area.draw(&line).map_err(plot_error)?;
                }
                area.draw(&mark(index, (x(spread.mean), y))).map_err(plot_error)?;
            }
        }
        Ok(())
    })
}
