//! Preprocessing stated by options, and messages on the resulting preprocessing and its origin.

use anyhow::bail;
use clap::Args;
use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use clr_onnx::{Backbone, Origin, PreprocessingOrigins, Preset, StatedPreprocessing};
use serde::Serialize;

/// The preprocessing of the network's input, unless the file has it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Preprocessing (an option overrides the preset, the preset overrides the file)")]
pub(crate) struct PreprocessingArgs {
    /// Preset: imagenet, tf, caffe, 0-255 or unit
    #[arg(long, value_parser = parse_preset, value_name = "NAME")]
    preset: Option<Preset>,
    /// Mean per channel, or one for all, such as 0.485,0.456,0.406
    #[arg(long, value_parser = parse_triple, value_name = "M,M,M", allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Standard deviation per channel, or one for all
    #[arg(long, value_parser = parse_triple, value_name = "S,S,S")]
    std: Option<[f32; 3]>,
    /// Largest pixel value, 1 or 255, for --mean and --std or for the input
    #[arg(long, value_parser = parse_range, value_name = "1|255")]
    range: Option<f32>,
    /// Order of the channels
    #[arg(long, value_parser = parse_order, value_name = "rgb|bgr")]
    channel_order: Option<ChannelOrder>,
    /// Centre crop, as a fraction of the shorter side such as 0.875, or stretch
    #[arg(long, value_parser = parse_crop, value_name = "FRACTION|stretch")]
    crop: Option<Fit>,
    /// Resampling filter, antialiased
    #[arg(long, value_parser = parse_filter, value_name = "bilinear|bicubic")]
    filter: Option<Filter>,
}

impl PreprocessingArgs {
    /// Returns the stated parts, in the units of [`Preprocessing`].
    pub(crate) fn stated(&self) -> anyhow::Result<StatedPreprocessing> {
        let mut stated = self.preset.map(StatedPreprocessing::preset).unwrap_or_default();
        let numbers = [self.mean, self.std].into_iter().flatten().flatten();
        let largest = numbers.clone().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let unit = match (self.range, self.mean.is_some() || self.std.is_some()) {
            (Some(_), false) if self.preset.is_some() => bail!(
                "--range cannot be combined with preset '{}', which has its own range\nhint: omit --range or --preset",
                self.preset.map_or("", Preset::name)
            ),
            (Some(range), false) => {
                stated.mean = Some([0.0; 3]);
                stated.std = Some([255.0 / range; 3]);
                1.0
            }
            (Some(range), true) => 255.0 / range,
            // In 0–255, a mean or deviation of at most one would have almost no effect. 0 and 1 are used with both
            // ranges.
            (None, true) if numbers.clone().all(|value| value == 0.0 || value == 1.0) => bail!(
                "--mean and --std of 0 and 1 are ambiguous: pixels may be 0 to 1 or 0 to 255\nhint: state the range \
                 with --range 1 or --range 255"
            ),
            (None, true) => {
                if largest <= 1.0 {
                    255.0
                } else {
                    1.0
                }
            }
            (None, false) => 1.0,
        };
        let in_bytes = |values: [f32; 3]| values.map(|value| value * unit);
        if let Some(std) = self.std {
            if std.iter().any(|&value| value <= 0.0) {
                bail!("--std {}: expected values above 0", triple(std));
            }
            stated.std = Some(in_bytes(std));
        }
        stated.mean = self.mean.map(in_bytes).or(stated.mean);
        stated.channel_order = self.channel_order.or(stated.channel_order);
        stated.fit = self.crop.or(stated.fit);
        stated.filter = self.filter.or(stated.filter);
        Ok(stated)
    }

    /// Returns whether the crop is stated.
    pub(crate) fn states_crop(&self) -> bool {
        self.crop.is_some()
    }

    /// Returns the backbone with the stated parts applied.
    pub(crate) fn apply(&self, backbone: Backbone) -> anyhow::Result<Backbone> {
        let stated = self.stated()?;
        if stated.is_empty() {
            return Ok(backbone);
        }
        Ok(backbone.with_stated(&stated, Origin::Option)?)
    }
}

/// A preprocessing and the origin of its parts, for JSON.
#[derive(Serialize)]
pub(crate) struct PreprocessingDocument {
    #[serde(flatten)]
    preprocessing: Preprocessing,
    preset: Option<&'static str>,
    origins: PreprocessingOrigins,
    assumed: Vec<&'static str>,
}

impl PreprocessingDocument {
    pub(crate) fn new(backbone: &Backbone) -> Self {
        let origins = backbone.preprocessing_origins();
        Self {
            preprocessing: backbone.preprocessing().clone(),
            preset: Preset::of(backbone.preprocessing()).map(Preset::name),
            origins,
            assumed: origins.assumed(),
        }
    }
}

/// Logs the backbone's preprocessing with the origin of each part, and warns about assumed parts.
pub(crate) fn log(backbone: &Backbone) {
    tracing::info!("{}", line(backbone));
    if let Some(warning) = warning(backbone) {
        tracing::warn!("{warning}");
    }
}

/// Returns the backbone's preprocessing with the origin of each part, on one line.
pub(crate) fn line(backbone: &Backbone) -> String {
    format!(
        "preprocessing: {}; {}",
        describe(backbone.preprocessing()),
        describe_origins(backbone.preprocessing_origins())
    )
}

/// Returns a description of a preprocessing, without the size.
pub(crate) fn describe(preprocessing: &Preprocessing) -> String {
    let preset = Preset::of(preprocessing).map_or(String::new(), |preset| format!(" ({preset})"));
    let fit = match preprocessing.fit {
        Fit::CenterCrop { fraction } => format!("centre crop {fraction}"),
        _ => "stretched".to_owned(),
    };
    let filter = match preprocessing.filter {
        Filter::Bicubic => "bicubic",
        _ => "bilinear",
    };
    let order = match preprocessing.channel_order {
        ChannelOrder::Bgr => "BGR",
        _ => "RGB",
    };
    format!(
        "(value − mean) / std of 0–255, mean {}, std {}, {order}{preset}, {fit}, {filter}",
        triple(preprocessing.mean),
        triple(preprocessing.std)
    )
}

/// Returns a description of the origins, grouped by origin: "normalisation and channel order recognised in the graph,
/// crop and filter assumed".
pub(crate) fn describe_origins(origins: PreprocessingOrigins) -> String {
    let parts = origins.parts();
    let mut seen: Vec<Origin> = Vec::new();
    for (_, origin) in parts {
        if !seen.contains(&origin) {
            seen.push(origin);
        }
    }
    if let [origin] = seen[..] {
        return format!("all {origin}");
    }
    let of = |origin: Origin| -> Vec<&str> {
        let parts = parts.iter().filter(|(_, other)| *other == origin);
        parts.map(|(name, _)| *name).collect()
    };
    let each = seen.into_iter().map(|origin| format!("{} {origin}", list(&of(origin))));
    each.collect::<Vec<_>>().join(", ")
}

/// Returns a warning about assumed parts, with the options that set them.
pub(crate) fn warning(backbone: &Backbone) -> Option<String> {
    let assumed = backbone.preprocessing_origins().assumed();
    if assumed.is_empty() {
        return None;
    }
    let options: Vec<&str> = assumed
        .iter()
        .map(|part| match *part {
            "normalisation" => "--preset imagenet|tf|caffe|0-255|unit or --mean and --std",
            "channel order" => "--channel-order rgb|bgr",
            "crop" => "--crop FRACTION|stretch",
            _ => "--filter bilinear|bicubic",
        })
        .collect();
    Some(format!(
        "{} of the input {} assumed: the file does not state {}, and {} every result\nhint: state {} with {}; `clr \
         import --check-images FOLDER` compares the presets",
        list(&assumed),
        if assumed.len() == 1 { "is" } else { "are" },
        if assumed.len() == 1 { "it" } else { "them" },
        if assumed.len() == 1 {
            "it changes"
        } else {
            "they change"
        },
        if assumed.len() == 1 { "it" } else { "them" },
        options.join(", ")
    ))
}

fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn triple(values: [f32; 3]) -> String {
    values.map(|value| value.to_string()).join(",")
}

fn parse_preset(text: &str) -> Result<Preset, String> {
    let lower = text.to_lowercase();
    let known = || Preset::ALL.map(Preset::name).join(", ");
    Preset::from_name(&lower).ok_or_else(|| match lower.as_str() {
        "paper" | "default" => format!(
            "expected one of {}; a schedule is chosen with --schedule {lower}",
            known()
        ),
        _ => format!("expected one of {}", known()),
    })
}

fn parse_triple(text: &str) -> Result<[f32; 3], String> {
    let values: Option<Vec<f32>> = text
        .trim_matches(['[', ']', '(', ')'])
        .split([',', ' ', ';'])
        .filter(|value| !value.is_empty())
        .map(|value| value.parse().ok().filter(|value: &f32| value.is_finite()))
        .collect();
    match values.as_deref() {
        Some(&[one]) => Ok([one; 3]),
        Some(&[first, second, third]) => Ok([first, second, third]),
        _ => Err("expected three comma-separated numbers, or one for all channels".to_owned()),
    }
}

fn parse_range(text: &str) -> Result<f32, String> {
    match text.trim() {
        "1" | "1.0" | "0-1" => Ok(1.0),
        "255" | "255.0" | "0-255" => Ok(255.0),
        _ => Err("expected 1 (values from 0 to 1) or 255 (values from 0 to 255)".to_owned()),
    }
}

fn parse_order(text: &str) -> Result<ChannelOrder, String> {
    match text.to_lowercase().as_str() {
        "rgb" => Ok(ChannelOrder::Rgb),
        "bgr" => Ok(ChannelOrder::Bgr),
        _ => Err("expected rgb or bgr".to_owned()),
    }
}

fn parse_crop(text: &str) -> Result<Fit, String> {
    if matches!(text.to_lowercase().as_str(), "stretch" | "squash") {
        return Ok(Fit::Stretch);
    }
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let fraction = match text.split_once('/') {
        Some((crop, size)) => number(crop).zip(number(size)).map(|(crop, size)| crop / size),
        None => number(text),
    };
    match fraction {
        Some(fraction) if fraction > 0.0 && fraction <= 1.0 => Ok(Fit::CenterCrop { fraction }),
        _ => Err("expected a fraction above 0 and up to 1, such as 0.875 or 224/256, or stretch".to_owned()),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    match text.to_lowercase().as_str() {
        "bilinear" | "linear" => Ok(Filter::Bilinear),
        "bicubic" | "cubic" => Ok(Filter::Bicubic),
        _ => Err("expected bilinear or bicubic".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        preprocessing: PreprocessingArgs,
    }

    fn stated(arguments: &[&str]) -> anyhow::Result<StatedPreprocessing> {
        let cli = Cli::try_parse_from(["clr"].iter().chain(arguments))?;
        cli.preprocessing.stated()
    }

    #[test]
    fn numbers_mean_the_same_in_either_unit() {
        let small = stated(&["--mean", "0.5,0.5,0.5", "--std", "0.5"]).unwrap();
        let large = stated(&["--mean", "127.5", "--std", "127.5,127.5,127.5"]).unwrap();
        assert_eq!(small, large);
        assert_eq!(small.mean, Some([127.5; 3]));
        let caffe = stated(&[
            "--mean",
            "103.939,116.779,123.68",
            "--std",
            "1",
            "--channel-order",
            "bgr",
        ])
        .unwrap();
        assert_eq!(caffe, stated(&["--preset", "caffe"]).unwrap());
        assert_eq!(stated(&["--range", "1"]).unwrap().std, Some([255.0; 3]));
        assert_eq!(stated(&["--range", "255"]).unwrap().std, Some([1.0; 3]));
    }

    #[test]
    fn values_ambiguous_between_units_are_refused_with_a_question() {
        for arguments in [&["--mean", "0", "--std", "1"][..], &["--std", "1,1,1"]] {
            let error = stated(arguments).unwrap_err().to_string();
            assert!(error.contains("--range"), "{error}");
        }
        assert_eq!(
            stated(&["--mean", "0", "--std", "1", "--range", "255"]).unwrap().std,
            Some([1.0; 3])
        );
        assert!(stated(&["--preset", "tf", "--range", "1"]).is_err());
        assert!(stated(&["--std", "0.2,0,0.2"]).is_err());
    }

    #[test]
    fn options_override_the_preset() {
        let stated = stated(&[
            "--preset", "tf", "--mean", "127", "--crop", "224/256", "--filter", "bicubic",
        ])
        .unwrap();
        assert_eq!((stated.mean, stated.std), (Some([127.0; 3]), Some([127.5; 3])));
        assert_eq!(stated.fit, Some(Fit::CenterCrop { fraction: 0.875 }));
        assert_eq!(stated.filter, Some(Filter::Bicubic));
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_expected() {
        for (arguments, expected) in [
            (["--preset", "torch"], "imagenet, tf, caffe, 0-255, unit"),
            (["--preset", "paper"], "--schedule paper"),
            (["--mean", "0.5,0.5"], "three comma-separated numbers"),
            (["--crop", "1.5"], "stretch"),
            (["--filter", "lanczos"], "bilinear or bicubic"),
            (["--range", "2"], "1 (values"),
        ] {
            let error = stated(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn origins_are_reported_by_part_and_assumptions_with_options() {
        let mut origins = PreprocessingOrigins::all(Origin::Assumed);
        assert_eq!(describe_origins(origins), "all assumed");
        (origins.normalisation, origins.channel_order) = (Origin::Graph, Origin::Graph);
        assert_eq!(
            describe_origins(origins),
            "normalisation and channel order recognised in the graph, crop and filter assumed"
        );
    }
}
