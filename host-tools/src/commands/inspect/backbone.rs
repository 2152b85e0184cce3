//! Content of a backbone.

use std::path::{Path, PathBuf};

use clr_adapters::{Preprocessing, Recipe, SiteKind};
use clr_engine::{Engine, EngineOptions};
use clr_onnx::{Backbone, PreprocessingOrigins, RgbImage};
use serde::Serialize;

use super::preprocessing_line;
use crate::{
    commands::preprocessing,
    output::{Output, Table, human_bytes},
};

#[derive(Serialize)]
struct BackboneDocument {
    kind: &'static str,
    path: PathBuf,
    name: String,
    digest: String,
    nodes: usize,
    features: usize,
    /// Whether convolutions have integer weights.
    quantised: bool,
    /// `null` if the engine does not run the backbone.
    memory: Option<MemoryDocument>,
    preprocessing: Preprocessing,
    preprocessing_origins: PreprocessingOrigins,
    preprocessing_assumed: Vec<&'static str>,
    classifier: Option<usize>,
    labels: Option<usize>,
    notes: Vec<String>,
    recipes: Vec<RecipeDocument>,
    sites: Vec<BackboneSite>,
}

/// Memory of the device engine after one image with one thread, in bytes.
#[derive(Serialize)]
struct MemoryDocument {
    /// Weights in the layout of the kernels.
    packed_weights: usize,
    /// Feature maps and workspace.
    working: usize,
}

#[derive(Serialize)]
struct RecipeDocument {
    recipe: Recipe,
    sites: usize,
    /// Number of parameters after folding, without the head.
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

pub(super) fn show(path: &Path, backbone: &Backbone, list_sites: bool, output: &Output) -> anyhow::Result<()> {
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
        quantised: backbone.is_quantised(),
        memory: memory(backbone),
        preprocessing: backbone.preprocessing().clone(),
        preprocessing_origins: backbone.preprocessing_origins(),
        preprocessing_assumed: backbone.preprocessing_origins().assumed(),
        classifier: backbone.classifier().map(clr_adapters::Head::classes),
        labels: backbone.labels().map(<[String]>::len),
        notes: backbone.notes().to_vec(),
        recipes: Recipe::ALL.map(|recipe| recipe_document(backbone, recipe)).into(),
        sites: sites.collect(),
    };
    if let Some(warning) = preprocessing::warning(backbone) {
        tracing::warn!("{warning}");
    }
    if output.json {
        return Ok(output.document("inspect", &document)?);
    }
    output.line(&format!("backbone     {}", path.display()))?;
    output.line(&format!("name         {}", document.name))?;
    output.line(&format!("digest       {}", document.digest))?;
    output.line(&format!(
        "graph        {} nodes, {} features{}",
        document.nodes,
        document.features,
        if document.quantised { ", quantised" } else { "" }
    ))?;
    if let Some(memory) = &document.memory {
        output.line(&format!(
            "memory       {} of packed weights and {} of workspace in the engine",
            human_bytes(memory.packed_weights as u64),
            human_bytes(memory.working as u64)
        ))?;
    }
    preprocessing_line(&document.preprocessing, output)?;
    output.line(&format!(
        "origins      {}",
        preprocessing::describe_origins(document.preprocessing_origins)
    ))?;
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

/// Runs one image, because weights are packed and workspace is allocated when they are first needed.
fn memory(backbone: &Backbone) -> Option<MemoryDocument> {
    let preprocessing = backbone.preprocessing();
    let engine = Engine::new(backbone.clone(), EngineOptions::default().with_threads(1)).ok()?;
    let image = RgbImage::new(preprocessing.width, preprocessing.height);
    engine.backbone_features(preprocessing, &image).ok()?;
    let memory = engine.memory();
    Some(MemoryDocument {
        packed_weights: memory.packed_weights,
        working: memory.working,
    })
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

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
