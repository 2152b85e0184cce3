//! The recipes that `auto` compares.

use clr_adapters::Recipe;
use clr_onnx::{Backbone, Op, ValueId};

use crate::options::RecipeChoice;

/// Returns the recipes to train, those with the fewest parameters first.
pub(super) fn candidates(choice: &RecipeChoice, backbone: &Backbone) -> Vec<Recipe> {
    let mut all = match choice {
        RecipeChoice::Fixed(recipe) => return vec![*recipe],
        RecipeChoice::Auto { candidates: Some(own) } => own.clone(),
        RecipeChoice::Auto { candidates: None } if has_dense_kernels(backbone) => {
            vec![Recipe::Bn, Recipe::Clr, Recipe::ClrFull]
        }
        RecipeChoice::Auto { candidates: None } => vec![Recipe::Bn, Recipe::Clr],
    };
    all.push(Recipe::Linear);
    all.sort_by_key(|recipe| Recipe::ALL.iter().position(|other| other == recipe));
    all.dedup();
    all
}

/// Returns whether most channels of the spatial convolutions after the first one mix channels (are not depthwise).
fn has_dense_kernels(backbone: &Backbone) -> bool {
    let (mut dense, mut depthwise) = (0, 0);
    for node in &backbone.graph().nodes {
        if let Op::Conv(conv) = &node.op
            && conv.kernel() != [1, 1]
            && !node.inputs.contains(&ValueId::IMAGE)
        {
            if conv.group < conv.channels() {
                dense += conv.channels();
            } else {
                depthwise += conv.channels();
            }
        }
    }
    dense > depthwise
}

#[cfg(test)]
mod tests {
    use clr_onnx::{Architecture, seeded_backbone};

    use super::*;

    #[test]
    fn kernels_after_every_convolution_are_tried_on_backbones_with_dense_ones_only() {
        let auto = RecipeChoice::default();
        let cheap = [Recipe::Linear, Recipe::Bn, Recipe::Clr];
        for (architecture, expected) in [
            (Architecture::EfficientNetLite0, &cheap[..]),
            (Architecture::MobileNetV2, &cheap),
            (Architecture::ResNet18, &[&cheap[..], &[Recipe::ClrFull]].concat()),
        ] {
            let backbone = seeded_backbone(architecture, 1, 3);
            assert_eq!(candidates(&auto, &backbone), expected, "{architecture:?}");
        }
    }

    #[test]
    fn chosen_candidates_are_sorted_and_compared_with_the_head_alone() {
        let own = RecipeChoice::Auto {
            candidates: Some(vec![Recipe::ClrFull, Recipe::Bn, Recipe::Bn]),
        };
        let backbone = seeded_backbone(Architecture::MobileNetV2, 1, 3);
        assert_eq!(
            candidates(&own, &backbone),
            [Recipe::Linear, Recipe::Bn, Recipe::ClrFull]
        );
    }
}
