//! Content of an adapter.

use std::path::{Path, PathBuf};

use clr_adapters::{
    Calibration, Decoded, Metrics, OwnScores, Preprocessing, Provenance, PublicKey, Recipe, SignerClass, SiteWeights,
    Trial,
};
use serde::Serialize;

use super::preprocessing_line;
use crate::output::{Output, Table, human_bytes};

#[derive(Serialize)]
struct AdapterDocument {
    kind: &'static str,
    path: PathBuf,
    task: String,
    labels: Vec<String>,
    recipe: Recipe,
    version: u64,
    provenance: Provenance,
    backbone: String,
    parent: Option<String>,
    digest: String,
    format_version: u16,
    encoding: &'static str,
    file_bytes: usize,
    header_bytes: usize,
    decoded_bytes: usize,
    parameters: usize,
    preprocessing: Preprocessing,
    metrics: Option<MetricsDocument>,
    canaries: usize,
    revision: u32,
    expires: Option<u64>,
    temperature: f32,
    calibration: Option<Calibration>,
    profile: Option<ProfileDocument>,
    class_features: Option<ClassFeaturesDocument>,
    trial: Option<Trial>,
    signature: Option<SignatureDocument>,
    release: Option<ReleaseDocument>,
    sections: Vec<SectionDocument>,
    sites: Vec<SiteDocument>,
}

/// Stated signer; not verified.
#[derive(Serialize)]
struct SignatureDocument {
    class: SignerClass,
    key: PublicKey,
}

/// The signed statement; absent if the signature is over the bytes themselves.
#[derive(Serialize)]
struct ReleaseDocument {
    audience: Vec<String>,
    created: Option<u64>,
    length: u64,
    content: String,
}

#[derive(Serialize)]
struct MetricsDocument {
    accuracy: f32,
    quantised_accuracy: f32,
    validation_images: u32,
    training_images: u32,
    data: String,
    seed: u64,
    created: u64,
}

#[derive(Serialize)]
struct ProfileDocument {
    dimensions: usize,
    /// The background that the profile belongs to; absent for a profile of sketches.
    background: Option<String>,
    own_scores: OwnScores,
}

#[derive(Serialize)]
struct ClassFeaturesDocument {
    directions: usize,
    margins: usize,
}

#[derive(Serialize)]
struct SectionDocument {
    kind: &'static str,
    encoding: &'static str,
    elements: usize,
    offset: usize,
    bytes: usize,
    /// Absent in format version 3, whose sections have no checksums of their own.
    crc: Option<String>,
}

#[derive(Serialize)]
struct SiteDocument {
    /// Absent in format version 3, which counts sites from the backbone's last one.
    name: Option<String>,
    weights: &'static str,
    channels: usize,
}

pub(super) fn show(path: &Path, decoded: &Decoded, list_sites: bool, output: &Output) -> anyhow::Result<()> {
    let (header, adapter) = (&decoded.adapter.header, &decoded.adapter);
    let sites = adapter.sites.iter().map(|site| SiteDocument {
        name: site.name.clone(),
        weights: match site.weights {
            SiteWeights::Scale(_) => "scale",
            SiteWeights::Kernel(_) => "kernel",
        },
        channels: site.channels(),
    });
    let sections = decoded.sections.iter().map(|section| SectionDocument {
        kind: section.kind.name(),
        encoding: section.encoding.name(),
        elements: section.elements,
        offset: section.offset,
        bytes: section.bytes,
        crc: section.crc.map(|crc| format!("{crc:08x}")),
    });
    let document = AdapterDocument {
        kind: "adapter",
        path: path.to_owned(),
        task: header.task.clone(),
        labels: header.labels.clone(),
        recipe: header.recipe,
        version: header.version,
        provenance: header.provenance,
        backbone: header.backbone.to_string(),
        parent: header.parent.map(|parent| parent.to_string()),
        digest: decoded.digest.to_string(),
        format_version: decoded.format_version,
        encoding: decoded.encoding.name(),
        file_bytes: decoded.file_bytes,
        header_bytes: decoded.header_bytes,
        decoded_bytes: adapter.decoded_bytes(),
        parameters: adapter.parameters(),
        preprocessing: header.preprocessing.clone(),
        metrics: header.metrics.as_ref().map(metrics),
        canaries: header.canaries.len(),
        revision: header.revision,
        expires: header.expires,
        temperature: header.temperature,
        calibration: header.calibration,
        profile: header.profile.as_ref().map(|profile| ProfileDocument {
            dimensions: profile.dimensions(),
            background: profile.own_scores.ratios().map(|ratios| ratios.background.to_string()),
            own_scores: profile.own_scores.clone(),
        }),
        class_features: header.class_features.as_ref().map(|known| ClassFeaturesDocument {
            directions: known.rank(),
            margins: known.margins.len(),
        }),
        trial: header.trial,
        signature: decoded.signature.map(|signature| SignatureDocument {
            class: signature.class,
            key: signature.key,
        }),
        release: decoded.release.as_ref().map(|release| ReleaseDocument {
            audience: release.audience.clone(),
            created: release.created,
            length: release.length,
            content: release.content.to_string(),
        }),
        sections: sections.collect(),
        sites: sites.collect(),
    };
    if output.json {
        return Ok(output.document("inspect", &document)?);
    }
    output.line(&format!("adapter      {}", path.display()))?;
    let revision = match document.revision {
        0 => String::new(),
        revision => format!(", tuned on a device (revision {revision})"),
    };
    output.line(&format!(
        "task         {}, version {}{revision}",
        document.task, document.version
    ))?;
    output.line(&format!(
        "classes      {}: {}",
        document.labels.len(),
        some(&document.labels)
    ))?;
    output.line(&format!(
        "recipe       {}, {} sites, {} parameters with the head",
        document.recipe,
        document.sites.len(),
        document.parameters
    ))?;
    output.line(&format!("backbone     {}", document.backbone))?;
    output.line(&format!("digest       {}", document.digest))?;
    match &document.signature {
        Some(signature) => output.line(&format!(
            "signed by    {} {} (stated in the file; `clr verify` checks it)",
            signature.class, signature.key
        ))?,
        None => output.line("signed by    none")?,
    }
    if let Some(release) = &document.release {
        output.line(&match &release.audience[..] {
            [] => "audience     every device".to_owned(),
            patterns => format!("audience     {}", patterns.join(", ")),
        })?;
    }
    output.line(&format!(
        "size         {} in the file ({}), {} in memory",
        human_bytes(document.file_bytes as u64),
        document.encoding,
        human_bytes(document.decoded_bytes as u64)
    ))?;
    preprocessing_line(&document.preprocessing, output)?;
    if let Some(metrics) = &document.metrics {
        output.line(&format!(
            "validation   {:.1} % in full precision, {:.1} % as in the file, {} images ({} for training, seed {})",
            100.0 * metrics.accuracy,
            100.0 * metrics.quantised_accuracy,
            metrics.validation_images,
            metrics.training_images,
            metrics.seed
        ))?;
    }
    output.line(&format!("confidence   {}", confidence(&document)))?;
    output.line(&match &document.profile {
        Some(profile) => format!(
            "profile      {} dimensions, {}",
            profile.dimensions,
            scores(&profile.own_scores)
        ),
        None => "profile      none: a device cannot choose this task by image".to_owned(),
    })?;
    output.line(&match &document.class_features {
        Some(known) => format!(
            "learning     class means, {} directions and {} margins: a device teaches new classes without old images",
            known.directions, known.margins
        ),
        None => "learning     no class features: a device teaches new classes against its own images only".to_owned(),
    })?;
    output.line(&format!("canaries     {}\n", document.canaries))?;
    let mut table = Table::new(["section", "encoding", "values", "offset", "bytes", "crc"]);
    let in_header = document.header_bytes.to_string();
    table.row(["header", "postcard", "-", "20", &in_header, "-"].map(str::to_owned));
    for section in &document.sections {
        table.row([
            section.kind.to_owned(),
            section.encoding.to_owned(),
            section.elements.to_string(),
            section.offset.to_string(),
            section.bytes.to_string(),
            section.crc.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    output.table(&table)?;
    if list_sites {
        output.line("")?;
        let mut table = Table::new(["site", "weights", "channels"]);
        let count = document.sites.len();
        for (index, site) in document.sites.iter().enumerate() {
            let unnamed = || format!("{} before the last", count - 1 - index);
            table.row([
                site.name.clone().unwrap_or_else(unnamed),
                site.weights.to_owned(),
                site.channels.to_string(),
            ]);
        }
        output.table(&table)?;
    }
    Ok(())
}

fn scores(own: &OwnScores) -> String {
    match own {
        OwnScores::Distances { typical, limit } => {
            format!("distance {typical:.2} at the median and {limit:.2} at 95 % of validation")
        }
        OwnScores::Ratios(ratios) => format!(
            "background {}, score {:.2} at the median and {:.2} at 5 % of validation",
            ratios.background,
            ratios.quantile(0.5),
            ratios.quantile(0.05)
        ),
    }
}

fn confidence(document: &AdapterDocument) -> String {
    let temperature = document.temperature;
    match document.calibration {
        Some(Calibration { before, after }) => format!(
            "temperature {temperature:.2}, calibration error on validation {:.1} % before, {:.1} % after",
            100.0 * before,
            100.0 * after
        ),
        None => format!("temperature {temperature:.2}, not calibrated"),
    }
}

fn metrics(metrics: &Metrics) -> MetricsDocument {
    MetricsDocument {
        accuracy: metrics.accuracy,
        quantised_accuracy: metrics.quantised_accuracy,
        validation_images: metrics.validation_images,
        training_images: metrics.training_images,
        data: metrics.data.to_string(),
        seed: metrics.seed,
        created: metrics.created,
    }
}

fn some(labels: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = labels.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if labels.len() > SHOWN {
        let more = labels.len() - SHOWN;
        text = format!("{text}, and {more} more");
    }
    text
}
