//! `clr inspect`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clr_adapters::{Decoded, Metrics, Preprocessing, Provenance, Recipe, SiteKind, SiteWeights};
use clr_onnx::Backbone;
use serde::Serialize;

use super::Context;
use crate::output::{Output, Table, human_bytes};

/// Show what is in an adapter or a backbone
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  clr inspect birds.clr\n  clr inspect lite0.onnx --json")]
pub(crate) struct InspectArgs {
    /// An adapter or an ONNX file
    #[arg(value_name = "ADAPTER|BACKBONE")]
    path: PathBuf,
    /// List every site
    #[arg(long)]
    sites: bool,
}

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
    decoded_bytes: usize,
    parameters: usize,
    preprocessing: Preprocessing,
    metrics: Option<MetricsDocument>,
    canaries: usize,
    sections: Vec<SectionDocument>,
    sites: Vec<SiteDocument>,
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
struct SectionDocument {
    kind: &'static str,
    encoding: &'static str,
    elements: usize,
    offset: usize,
    bytes: usize,
    crc: String,
}

#[derive(Serialize)]
struct SiteDocument {
    name: String,
    weights: &'static str,
    channels: usize,
}

#[derive(Serialize)]
struct BackboneDocument {
    kind: &'static str,
    path: PathBuf,
    name: String,
    digest: String,
    nodes: usize,
    features: usize,
    preprocessing: Preprocessing,
    classifier: Option<usize>,
    labels: Option<usize>,
    notes: Vec<String>,
    recipes: Vec<RecipeDocument>,
    sites: Vec<BackboneSite>,
}

#[derive(Serialize)]
struct RecipeDocument {
    recipe: Recipe,
    sites: usize,
    /// After folding, without the head.
    parameters: usize,
}

#[derive(Serialize)]
struct BackboneSite {
    name: String,
    channels: usize,
    kernel: [usize; 2],
    norm: bool,
    activation: bool,
}

pub(crate) fn run(args: &InspectArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let bytes = std::fs::read(&args.path).with_context(|| format!("cannot read '{}'", args.path.display()))?;
    let is_adapter = args.path.extension().is_some_and(|extension| extension == "clr");
    match clr_adapters::decode(&bytes) {
        Ok(decoded) => adapter(&args.path, &decoded, args.sites, context.output)?,
        Err(error) if is_adapter => {
            return Err(anyhow::Error::new(error).context(format!("'{}' is not a usable adapter", args.path.display())));
        }
        Err(_) => {
            let loaded = Backbone::from_bytes(&bytes, &args.path.display().to_string())?;
            backbone(&args.path, &loaded, args.sites, context.output)?;
        }
    }
    Ok(0)
}

fn adapter(path: &Path, decoded: &Decoded, list_sites: bool, output: &Output) -> anyhow::Result<()> {
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
        crc: format!("{:08x}", section.crc),
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
        decoded_bytes: adapter.decoded_bytes(),
        parameters: adapter.parameters(),
        preprocessing: header.preprocessing.clone(),
        metrics: header.metrics.as_ref().map(metrics),
        canaries: header.canaries.len(),
        sections: sections.collect(),
        sites: sites.collect(),
    };
    if output.json {
        return Ok(output.document("inspect", &document)?);
    }
    output.line(&format!("adapter      {}", path.display()))?;
    output.line(&format!("task         {}, version {}", document.task, document.version))?;
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
    output.line(&format!(
        "size         {} in the file ({}), {} in memory",
        human_bytes(document.file_bytes as u64),
        document.encoding,
        human_bytes(document.decoded_bytes as u64)
    ))?;
    preprocessing_line(&document.preprocessing, output)?;
    if let Some(metrics) = &document.metrics {
        output.line(&format!(
            "validation   {:.1} % in full precision, {:.1} % as in the file, {} pictures ({} for training, seed {})",
            100.0 * metrics.accuracy,
            100.0 * metrics.quantised_accuracy,
            metrics.validation_images,
            metrics.training_images,
            metrics.seed
        ))?;
    }
    output.line(&format!("canaries     {}\n", document.canaries))?;
    let mut table = Table::new(["section", "encoding", "values", "offset", "bytes", "crc"]);
    for section in &document.sections {
        table.row([
            section.kind.to_owned(),
            section.encoding.to_owned(),
            section.elements.to_string(),
            section.offset.to_string(),
            section.bytes.to_string(),
            section.crc.clone(),
        ]);
    }
    output.table(&table)?;
    if list_sites {
        output.line("")?;
        let mut table = Table::new(["site", "weights", "channels"]);
        for site in &document.sites {
            table.row([site.name.clone(), site.weights.to_owned(), site.channels.to_string()]);
        }
        output.table(&table)?;
    }
    Ok(())
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

fn backbone(path: &Path, backbone: &Backbone, list_sites: bool, output: &Output) -> anyhow::Result<()> {
    let sites = backbone.sites().iter().map(|site| BackboneSite {
        name: site.name.clone(),
        channels: site.channels,
        kernel: site.kernel,
        norm: site.norm.is_some(),
        activation: site.activation.is_some(),
    });
    let document = BackboneDocument {
        kind: "backbone",
        path: path.to_owned(),
        name: backbone.name().to_owned(),
        digest: backbone.digest().to_string(),
        nodes: backbone.graph().nodes.len(),
        features: backbone.feature_count(),
        preprocessing: backbone.preprocessing().clone(),
        classifier: backbone.classifier().map(clr_adapters::Head::classes),
        labels: backbone.labels().map(<[String]>::len),
        notes: backbone.notes().to_vec(),
        recipes: Recipe::ALL.map(|recipe| recipe_document(backbone, recipe)).into(),
        sites: sites.collect(),
    };
    if output.json {
        return Ok(output.document("inspect", &document)?);
    }
    output.line(&format!("backbone     {}", path.display()))?;
    output.line(&format!("name         {}", document.name))?;
    output.line(&format!("digest       {}", document.digest))?;
    output.line(&format!(
        "graph        {} nodes, {} features",
        document.nodes, document.features
    ))?;
    preprocessing_line(&document.preprocessing, output)?;
    match document.classifier {
        Some(classes) => output.line(&format!(
            "classifier   {classes} classes, labels: {}",
            yes(document.labels.is_some())
        ))?,
        None => output.line("classifier   none")?,
    }
    for note in &document.notes {
        output.line(&format!("note         {note}"))?;
    }
    output.line("")?;
    let mut table = Table::new(["recipe", "sites", "parameters without head", "f32 bytes"]);
    for recipe in &document.recipes {
        table.row([
            recipe.recipe.to_string(),
            recipe.sites.to_string(),
            recipe.parameters.to_string(),
            (4 * recipe.parameters).to_string(),
        ]);
    }
    output.table(&table)?;
    if list_sites {
        output.line("")?;
        let mut table = Table::new(["site", "channels", "kernel", "norm", "activation"]);
        for site in &document.sites {
            table.row([
                site.name.clone(),
                site.channels.to_string(),
                format!("{}×{}", site.kernel[0], site.kernel[1]),
                yes(site.norm).to_owned(),
                yes(site.activation).to_owned(),
            ]);
        }
        output.table(&table)?;
    }
    Ok(())
}

fn recipe_document(backbone: &Backbone, recipe: Recipe) -> RecipeDocument {
    let (mut sites, mut parameters) = (0, 0);
    for site in backbone.sites() {
        let per_channel = match recipe.site_kind(site.kernel) {
            SiteKind::Frozen => continue,
            SiteKind::Scale => 2,
            SiteKind::Kernel => 10,
        };
        sites += 1;
        parameters += per_channel * site.channels;
    }
    RecipeDocument {
        recipe,
        sites,
        parameters,
    }
}

fn preprocessing_line(preprocessing: &Preprocessing, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "input        {}×{} pixels, {:?}, {:?}, {:?}, mean {:?}, std {:?}",
        preprocessing.height,
        preprocessing.width,
        preprocessing.fit,
        preprocessing.filter,
        preprocessing.channel_order,
        preprocessing.mean,
        preprocessing.std
    ))
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

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
