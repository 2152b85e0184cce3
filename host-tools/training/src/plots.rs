//! Learning curves and confusion matrices as SVG, which need no font file.

use plotters::{prelude::*, style::text_anchor};

use crate::{Record, TrainError, error::Result};

const BLUE_TONE: RGBColor = RGBColor(31, 90, 150);
const ORANGE_TONE: RGBColor = RGBColor(214, 110, 20);
const GREY_TONE: RGBColor = RGBColor(120, 120, 120);

fn plot_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Plot(error.to_string())
}

/// Draws loss (top) and accuracy (bottom) of training and validation over the epochs of the last recipe in `history`.
/// The best epoch is marked.
pub fn learning_curve_svg(history: &[Record]) -> Result<String> {
    let recipe = history.last().ok_or_else(|| plot_error("the history is empty"))?.recipe;
    let records: Vec<&Record> = history.iter().filter(|record| record.recipe == recipe).collect();
    let last = records.iter().map(|record| record.epoch).max().unwrap_or(0).max(1);
    let best = records
        .iter()
        .rev()
        .find(|record| record.best)
        .map_or(0, |record| record.epoch);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (720, 560)).into_drawing_area();
        area.fill(&WHITE).map_err(plot_error)?;
        let (upper, lower) = area.split_vertically(280);
        let loss: [Vec<(f64, f64)>; 2] = [
            curve(&records, |record| record.train_loss),
            curve(&records, |record| Some(record.validation_loss)),
        ];
        let accuracy: [Vec<(f64, f64)>; 2] = [
            curve(&records, |record| record.train_accuracy.map(|value| 100.0 * value)),
            curve(&records, |record| Some(100.0 * record.validation_accuracy)),
        ];
        let highest = loss.iter().flatten().map(|point| point.1).fold(0.1, f64::max);
        panel(
            &upper,
            &format!("{recipe}: loss"),
            last,
            0.0..1.05 * highest,
            &loss,
            best,
        )?;
        let lowest = accuracy.iter().flatten().map(|point| point.1).fold(100.0, f64::min);
        let floor = (lowest / 10.0).floor() * 10.0;
        let range = floor.min(90.0)..100.0;
        panel(
            &lower,
            &format!("{recipe}: accuracy in % (best epoch {best})"),
            last,
            range,
            &accuracy,
            best,
        )?;
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

fn curve(records: &[&Record], value: impl Fn(&Record) -> Option<f32>) -> Vec<(f64, f64)> {
    let points = records
        .iter()
        .filter_map(|record| Some((record.epoch as f64, f64::from(value(record)?))));
    points.filter(|point| point.1.is_finite()).collect()
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    last: usize,
    range: std::ops::Range<f64>,
    curves: &[Vec<(f64, f64)>; 2],
    best: usize,
) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last as f64, range.clone())
        .map_err(plot_error)?;
    (chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(228, 228, 228)))
    .x_labels(last.min(10) + 1)
    .x_label_formatter(&|epoch| format!("{epoch:.0}"))
    .x_desc("epoch")
    .label_style(("sans-serif", 12))
    .draw()
    .map_err(plot_error)?;
    let mark = [(best as f64, range.start), (best as f64, range.end)];
    chart
        .draw_series(LineSeries::new(mark, GREY_TONE))
        .map_err(plot_error)?;
    for (points, (colour, name)) in curves
        .iter()
        .zip([(ORANGE_TONE, "training"), (BLUE_TONE, "validation")])
    {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
            .map_err(plot_error)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart
            .draw_series(points.iter().map(|&point| Circle::new(point, 2, colour.filled())))
            .map_err(plot_error)?;
    }
    (chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200)))
    .label_font(("sans-serif", 12))
    .draw()
    .map_err(plot_error)
}

/// Draws the confusion matrix `matrix[true][predicted]`. Each cell is coloured by its fraction of the true class. The
/// plot is readable for 2 to 50 classes; up to 20 classes, cells contain counts.
pub fn confusion_matrix_svg(matrix: &[Vec<u32>], labels: &[String]) -> Result<String> {
    let classes = labels.len();
    if classes == 0 || matrix.len() != classes || matrix.iter().any(|row| row.len() != classes) {
        return Err(plot_error(format!("{} rows for {classes} labels", matrix.len())));
    }
    let cell = (640 / classes as i32).clamp(14, 56);
    let font = (f64::from(cell) * 0.45).clamp(9.0, 14.0);
    let short: Vec<String> = labels.iter().map(|label| shorten(label)).collect();
    let longest = short.iter().map(|label| label.chars().count()).max().unwrap_or(1);
    let margin = (longest as f64 * font * 0.62) as i32 + 40;
    let side = cell * classes as i32;
    let size = ((margin + side + 24) as u32, (margin + side + 60) as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(plot_error)?;
        let text = ("sans-serif", font).into_font().color(&BLACK);
        let right = text.pos(text_anchor::Pos::new(
            text_anchor::HPos::Right,
            text_anchor::VPos::Center,
        ));
        let upright = (("sans-serif", font)
            .into_font()
            .transform(FontTransform::Rotate90)
            .color(&BLACK))
        .pos(text_anchor::Pos::new(
            text_anchor::HPos::Left,
            text_anchor::VPos::Center,
        ));
        let middle = text_anchor::Pos::new(text_anchor::HPos::Center, text_anchor::VPos::Center);
        let top = 40;
        let title = ("sans-serif", 14).into_font().color(&BLACK);
        area.draw_text(
            "rows: true class, columns: predicted; colour: share of the row",
            &title,
            (12, 12),
        )
        .map_err(plot_error)?;
        for (row, counts) in matrix.iter().enumerate() {
            let y = top + cell * row as i32;
            area.draw_text(&short[row], &right, (margin - 6, y + cell / 2))
                .map_err(plot_error)?;
            let x = margin + cell * row as i32;
            area.draw_text(&short[row], &upright, (x + cell / 2, top + side + 6))
                .map_err(plot_error)?;
            let whole = counts.iter().sum::<u32>().max(1);
            for (column, &count) in counts.iter().enumerate() {
                let x = margin + cell * column as i32;
                let share = f64::from(count) / f64::from(whole);
                let tone = if row == column { BLUE_TONE } else { ORANGE_TONE };
                let shade = |channel: u8| (255.0 - (255.0 - f64::from(channel)) * share.sqrt()).round() as u8;
                let fill = RGBColor(shade(tone.0), shade(tone.1), shade(tone.2));
                let corners = [(x, y), (x + cell, y + cell)];
                area.draw(&Rectangle::new(corners, fill.filled())).map_err(plot_error)?;
                area.draw(&Rectangle::new(corners, RGBColor(225, 225, 225).stroke_width(1)))
                    .map_err(plot_error)?;
                if count > 0 && classes <= 20 {
                    let ink = if share > 0.5 { WHITE } else { BLACK };
                    let style = ("sans-serif", font).into_font().color(&ink).pos(middle);
                    area.draw_text(&count.to_string(), &style, (x + cell / 2, y + cell / 2))
                        .map_err(plot_error)?;
                }
            }
        }
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

fn shorten(label: &str) -> String {
    if label.chars().count() <= 18 {
        label.to_owned()
    } else {
        label.chars().take(17).chain(['…']).collect()
    }
}
