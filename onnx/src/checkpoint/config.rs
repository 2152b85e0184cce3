//! `config.json` next to the weights, as written by timm and Transformers: the network's name, and settings that the
//! tensors do not show.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// Maximum bytes of such a file.
const MAX_BYTES: u64 = 1 << 20;

/// Content of the file.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// The name of the network.
    pub(super) stated: Vec<String>,
    /// A setting that changes the network's function: its name, the expected value and the value found.
    pub(super) other: Option<String>,
}

/// Settings of Transformers: model type, setting, and the value that the architectures here implement.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("resnet", "downsample_in_first_stage", "false"),
    ("resnet", "downsample_in_bottleneck", "false"),
    ("resnet", "hidden_act", "\"relu\""),
    ("mobilenet_v2", "tf_padding", "true"),
    ("mobilenet_v2", "layer_norm_eps", "0.001"),
    ("mobilenet_v2", "output_stride", "32"),
    ("mobilenet_v2", "hidden_act", "\"relu6\""),
];

impl Config {
    /// Reads `config.json` in the folder of `weights`. A file of another kind is ignored.
    pub(super) fn next_to(weights: &Path) -> Self {
        let read = || {
            let file = std::fs::File::open(weights.with_file_name("config.json")).ok()?;
            let mut text = Vec::new();
            file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
            serde_json::from_slice(&text).ok()
        };
        read().map_or_else(Self::default, |json: Value| Self::of(&json))
    }

    fn of(json: &Value) -> Self {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = text("model_type");
        let other = SETTINGS.iter().find_map(|&(of, key, expected)| {
            let got = json.get(key).filter(|_| kind.as_deref() == Some(of))?;
            let got = got.to_string();
            (got != expected).then(|| format!("`{key}`: expected {expected}, got {got}"))
        });
        Self {
            stated: text("architecture").into_iter().collect(),
            other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_no_tensor_shows_are_read() {
        let config = |json| Config::of(&json);
        assert_eq!(
            config(json!({"architecture": "tf_efficientnet_lite0"})).stated,
            ["tf_efficientnet_lite0"]
        );
        let published =
            json!({"model_type": "mobilenet_v2", "tf_padding": true, "layer_norm_eps": 0.001, "hidden_act": "relu6"});
        assert_eq!(config(published).other, None);
        let other = config(json!({"model_type": "resnet", "downsample_in_bottleneck": true})).other;
        assert_eq!(
            other.as_deref(),
            Some("`downsample_in_bottleneck`: expected false, got true")
        );
        // The configuration of another kind of model, or JSON that is not an object.
        assert_eq!(config(json!({"model_type": "bert", "hidden_act": "gelu"})).other, None);
        assert_eq!(config(json!([1])).other, None);
    }
}
