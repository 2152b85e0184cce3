//! Preprocessing that timm (`config.json`, key `pretrained_cfg`) and Hugging Face (`preprocessor_config.json`) store
//! next to a model.
//!
//! Only unambiguous values are used; the others remain unset. Both tools list channels in RGB.

use std::path::Path;

use clr_adapters::{ChannelOrder, Filter, Fit};
use serde_json::Value;

use super::StatedPreprocessing;

/// Maximum bytes of a configuration file.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the values that a configuration next to the model at `path` states. Returns `None` if there is no
/// configuration, or if the folder contains several models and the configuration could belong to any of them.
pub(crate) fn stated_next_to(path: &Path) -> Option<StatedPreprocessing> {
    if !only_model(path) {
        return None;
    }
    let read = |name: &str| -> Option<Value> {
        let file = path.with_file_name(name);
        let small = std::fs::metadata(&file).ok()?.len() <= MAX_BYTES;
        let bytes = small.then(|| std::fs::read(&file).ok()).flatten()?;
        serde_json::from_str(&clr_adapters::text_from_bytes(bytes).ok()?).ok()
    };
    let timm = read("config.json").and_then(|config| of_timm(&config));
    let stated = timm.or_else(|| Some(of_hugging_face(&read("preprocessor_config.json")?)));
    stated.filter(|stated| !stated.is_empty())
}

/// Returns whether there is no other model next to `path`.
fn only_model(path: &Path) -> bool {
    const MODELS: [&str; 6] = ["onnx", "safetensors", "bin", "pt", "pth", "ckpt"];
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let stem = |path: &Path| path.file_stem().map(std::ffi::OsStr::to_owned);
    let others = entries.flatten().map(|entry| entry.path()).filter(|other| {
        let extension = other.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| MODELS.contains(&extension))
            && stem(other) != stem(path)
            // The same weights in the format before.
            && !other.ends_with("pytorch_model.bin")
            && !other.ends_with("model.safetensors")
    });
    // Files written by this program do not count as other models.
    others
        .filter(|other| !other.to_string_lossy().contains(".original."))
        .count()
        == 0
}

fn of_timm(config: &Value) -> Option<StatedPreprocessing> {
    let of = config.get("pretrained_cfg")?;
    let scaled = |key: &str| triple(of.get(key)?).map(|values| values.map(|value| value * 255.0));
    let fraction = of.get("crop_pct").and_then(Value::as_f64);
    let center = of.get("crop_mode").is_none_or(|mode| mode == "center");
    Some(StatedPreprocessing {
        mean: scaled("mean"),
        std: scaled("std"),
        channel_order: of.get("mean").map(|_| ChannelOrder::Rgb),
        fit: fraction.filter(|_| center).and_then(crop),
        filter: match of.get("interpolation").and_then(Value::as_str) {
            Some("bilinear") => Some(Filter::Bilinear),
            Some("bicubic") => Some(Filter::Bicubic),
            _ => None,
        },
    })
}

fn of_hugging_face(config: &Value) -> StatedPreprocessing {
    let flag = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
    // Without `do_rescale`, old versions divide by 255 as part of the normalisation.
    let rescaled = flag("do_rescale", true);
    let factor = config
        .get("rescale_factor")
        .and_then(Value::as_f64)
        .unwrap_or(1.0 / 255.0);
    let unit = if rescaled { (1.0 / factor) as f32 } else { 1.0 };
    let scaled = |key: &str| triple(config.get(key)?).map(|values| values.map(|value| value * unit));
    let (mean, std) = if flag("do_normalize", config.get("image_mean").is_some()) {
        (scaled("image_mean"), scaled("image_std"))
    } else if config.get("do_normalize").is_some() && config.get("do_rescale").is_some() {
        (Some([0.0; 3]), Some([unit; 3]))
    } else {
        (None, None)
    };
    let (mean, std) = mean.zip(std).unzip();
    StatedPreprocessing {
        mean,
        std,
        channel_order: mean.map(|_| ChannelOrder::Rgb),
        fit: hugging_face_fit(config),
        filter: match config.get("resample").and_then(Value::as_u64) {
            // Pillow's numbers.
            Some(2) => Some(Filter::Bilinear),
            Some(3) => Some(Filter::Bicubic),
            _ => None,
        },
    }
}

fn hugging_face_fit(config: &Value) -> Option<Fit> {
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let side = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64).or_else(|| value.as_f64());
    let size = config.get("size")?;
    let shorter = size.get("shortest_edge").and_then(Value::as_f64);
    match (flag("do_resize"), flag("do_center_crop"), shorter) {
        (Some(false), ..) => None,
        // ConvNeXt: scale the shorter side to `size / crop_pct`, then crop the centre.
        (_, None, Some(_)) => config.get("crop_pct").and_then(Value::as_f64).and_then(crop),
        (_, Some(true), Some(shorter)) => crop(side(config.get("crop_size")?, "height")? / shorter),
        // A single number is the shorter side before a crop. A pair of sides is the exact size to scale to.
        (_, None | Some(false), None) if size.get("height").is_some() => Some(Fit::Stretch),
        _ => None,
    }
}

fn crop(fraction: f64) -> Option<Fit> {
    (fraction > 0.0 && fraction <= 1.0).then_some(Fit::CenterCrop {
        fraction: fraction as f32,
    })
}

fn triple(value: &Value) -> Option<[f32; 3]> {
    let values = value
        .as_array()?
        .iter()
        .map(|value| value.as_f64().map(|value| value as f32));
    values.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Preset;

    fn near(stated: &StatedPreprocessing, preset: Preset) {
        let close = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(
            close(stated.mean.unwrap(), preset.mean()) && close(stated.std.unwrap(), preset.std()),
            "{stated:?}"
        );
    }

    #[test]
    fn timm_states_every_part() {
        let config = json!({"architecture": "resnet18", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"}});
        let stated = of_timm(&config).unwrap();
        near(&stated, Preset::ImageNet);
        assert_eq!(stated.filter, Some(Filter::Bicubic));
        assert_eq!(stated.fit, Some(Fit::CenterCrop { fraction: 0.95 }));
        assert_eq!(of_timm(&json!({"model_type": "resnet"})), None);
    }

    #[test]
    fn hugging_face_configurations_are_read_in_every_form() {
        let crop = json!({"do_normalize": true, "do_rescale": true, "rescale_factor": 0.003_921_568_627, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "do_resize": true, "size": {"shortest_edge": 256}, "do_center_crop": true,
            "crop_size": {"height": 224, "width": 224}, "resample": 2});
        let stated = of_hugging_face(&crop);
        near(&stated, Preset::Tf);
        assert_eq!(stated.fit, Some(Fit::CenterCrop { fraction: 0.875 }));
        assert_eq!(stated.filter, Some(Filter::Bilinear));
        let stretch =
            json!({"size": {"height": 224, "width": 224}, "resample": 3, "do_normalize": false, "do_rescale": true});
        let stated = of_hugging_face(&stretch);
        near(&stated, Preset::Unit);
        assert_eq!((stated.fit, stated.filter), (Some(Fit::Stretch), Some(Filter::Bicubic)));
        // Lanczos, and a single number as the size without a crop, are not used.
        let stated = of_hugging_face(&json!({"size": 224, "resample": 1}));
        assert!(stated.is_empty(), "{stated:?}");
    }

    #[test]
    fn a_configuration_among_several_models_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}).to_string();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let model = folder.path().join("model.onnx");
        std::fs::write(&model, "").unwrap();
        std::fs::write(folder.path().join("model.onnx.data"), "").unwrap();
        near(&stated_next_to(&model).unwrap(), Preset::Tf);
        std::fs::write(folder.path().join("other.onnx"), "").unwrap();
        assert_eq!(stated_next_to(&model), None);
    }
}
