//! Plots without fonts, for any number of classes.

use clr_adapters::Recipe;

use crate::{Record, confusion_matrix_svg, learning_curve_svg};

#[test]
fn learning_curves_have_axes_both_curves_and_a_legend() {
    let history: Vec<Record> = (0..6)
        .map(|epoch| Record {
            recipe: Recipe::Clr,
            epoch,
            epochs: 5,
            train_loss: (epoch > 0).then_some(2.0 / (epoch as f32).max(1.0)),
            train_accuracy: (epoch > 0).then_some(0.5 + 0.08 * epoch as f32),
            validation_loss: 1.5 / (epoch + 1) as f32,
            validation_accuracy: 0.5 + 0.06 * epoch as f32,
            rate: 1e-3,
            seconds: epoch as f64,
            best: epoch < 5,
        })
        .collect();
    let svg = learning_curve_svg(&history).unwrap();
    for text in [
        "<svg",
        "clr: loss",
        "best epoch 4",
        "training",
        "validation",
        "epoch",
        "polyline",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(learning_curve_svg(&[]).is_err());
    assert!(learning_curve_svg(&history[..1]).is_ok());
}

#[test]
fn confusion_matrices_name_every_class() {
    for classes in [2, 10, 50] {
        let labels: Vec<String> = (0..classes).map(|class| format!("class <{class}>")).collect();
        let matrix: Vec<Vec<u32>> = (0..classes)
            .map(|row| {
                (0..classes)
                    .map(|column| if row == column { 9 } else { u32::from(column == row + 1) })
                    .collect()
            })
            .collect();
        let svg = confusion_matrix_svg(&matrix, &labels).unwrap();
        assert!(svg.contains(&format!("class &lt;{}&gt;", classes - 1)), "{svg}");
        assert!(svg.matches("<rect").count() >= classes * classes);
    }
    assert!(confusion_matrix_svg(&[vec![1]], &["a".into(), "b".into()]).is_err());
}
