//! Complete runs from images to an adapter file.

use candle_core::Device;
use clr_adapters::{Encoding, OwnScores, Recipe, decode};
use clr_onnx::Preprocess as _;

use super::fixtures::{CLASSES, backbone, options, task};
use crate::{
    CandleBackbone, CompactOptions, Network, NormStatistics, RecipeChoice, Schedule, TrainError, TrainOptions,
    evaluate_adapter, train,
};

#[test]
fn training_from_a_later_site_stores_only_the_last_sites() {
    let (_folder, dataset) = task();
    let (backbone, last) = (backbone(), backbone().sites().len() - 1);
    let options = options(RecipeChoice::Fixed(Recipe::Clr)).with_first_site(last);
    let trained = train(&backbone, &dataset, &options, &mut ()).unwrap();
    let names: Vec<&str> = trained
        .adapter
        .sites
        .iter()
        .map(|site| site.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, [&*backbone.sites()[last].name]);
    assert_eq!(decode(&trained.bytes).unwrap().adapter, trained.quantised);
    let identity = clr_onnx::identity_adapter(
        &backbone,
        Recipe::Clr,
        trained.adapter.head.clone(),
        trained.adapter.header.clone(),
    );
    assert_ne!(trained.adapter.sites[0], identity.sites[last], "the site is trained");
    let refused = train(&backbone, &dataset, &options.with_first_site(last + 1), &mut ());
    assert!(matches!(refused, Err(TrainError::FirstSite { .. })));
}

#[test]
fn auto_leaves_out_recipes_whose_files_cannot_be_as_small_as_asked() {
    let (_folder, dataset) = task();
    let with = |choice: RecipeChoice, bytes: usize| {
        let compact = CompactOptions::default().with_bytes(bytes);
        train(&backbone(), &dataset, &options(choice).with_compact(compact), &mut ())
    };
    let least = |recipe| match with(RecipeChoice::Fixed(recipe), 100).unwrap_err() {
        TrainError::Bytes { least, .. } => least,
        other => panic!("{other}"),
    };
    let (linear, full) = (least(Recipe::Linear), least(Recipe::ClrFull));
    assert!(linear < full);
    let trained = with(RecipeChoice::default(), full - 1).unwrap();
    let recipes: Vec<Recipe> = trained.candidates.iter().map(|candidate| candidate.recipe).collect();
    assert!(
        recipes.contains(&Recipe::Linear) && !recipes.contains(&Recipe::ClrFull),
        "{recipes:?}"
    );
    assert!(trained.bytes.len() < full);
    let refused = with(RecipeChoice::default(), 100).unwrap_err();
    assert!(
        matches!(
            refused,
            TrainError::Bytes {
                recipe: Recipe::Linear,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_file_has_at_most_the_bytes_that_were_asked_for_or_the_refusal_states_the_least() {
    let (_folder, dataset) = task();
    let with = |bytes: Option<usize>| {
        let compact = CompactOptions::default().with_bytes(bytes);
        let options = options(RecipeChoice::Fixed(Recipe::Clr)).with_compact(compact);
        train(&backbone(), &dataset, &options, &mut ())
    };
    let free = with(None).unwrap().bytes.len();
    let asked = free * 9 / 10;
    let small = with(Some(asked)).unwrap();
    assert!(
        small.bytes.len() <= asked,
        "{} of {asked}, without a limit {free}",
        small.bytes.len()
    );
    assert_eq!(decode(&small.bytes).unwrap().adapter, small.quantised);
    let refused = with(Some(100)).unwrap_err();
    assert!(
        matches!(refused, TrainError::Bytes { bytes: 100, least, .. } if least > 100),
        "{refused}"
    );
}

#[test]
fn a_small_task_is_learned_and_the_file_gives_the_same_results() {
    let (_folder, dataset) = task();
    let options = options(RecipeChoice::Fixed(Recipe::Clr));
    let trained = train(&backbone(), &dataset, &options, &mut ()).unwrap();
    let test = trained.test.as_ref().unwrap();
    assert!(test.accuracy > 0.7, "{}", test.accuracy);
    assert_eq!(test.images, 36);
    // The start, four epochs, and four with rounded values.
    assert_eq!(trained.history.len(), 9);

    let header = &trained.adapter.header;
    assert_eq!(
        (header.task.as_str(), header.recipe, header.version),
        ("shapes", Recipe::Clr, 1)
    );
    assert_eq!(header.labels, CLASSES);
    let metrics = header.metrics.as_ref().unwrap();
    assert_eq!((metrics.training_images, metrics.validation_images), (51, 21));
    assert_eq!(metrics.accuracy, trained.validation.accuracy);
    assert_eq!(decode(&trained.bytes).unwrap().adapter, trained.quantised);

    let measured = evaluate_adapter(
        &backbone(),
        &trained.quantised,
        &dataset,
        crate::Split::Test,
        Some(2),
        &mut (),
    );
    assert_eq!(measured.unwrap(), *test);

    let network = Network::from_adapter(&backbone(), &trained.quantised).unwrap();
    let candle = CandleBackbone::new(&backbone(), &Device::Cpu).unwrap();
    let answer = |input: &[f32]| {
        let x = candle_core::Tensor::from_slice(input, (1, 3, 16, 16), &Device::Cpu).unwrap();
        candle
            .logits(&network, &x)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(trained.parity.len(), 4);
    for sample in &trained.parity {
        assert_eq!(answer(&sample.input), sample.logits);
    }
    assert_eq!(
        header.calibration,
        Some(trained.quantised_validation.calibration(header.temperature))
    );
    let profile = header.profile.as_ref().unwrap();
    assert!(profile.dimensions() > 0);
    assert!(matches!(profile.own_scores, OwnScores::Distances { typical, limit } if limit > typical));
    assert_eq!(header.canaries.len(), 2);
    for canary in &header.canaries {
        let [width, height] = canary.size;
        let image = image::RgbImage::from_raw(u32::from(width), u32::from(height), canary.pixels.clone()).unwrap();
        let logits = answer(&header.preprocessing.preprocess(&image));
        let class = clr_learning::argmax(&logits);
        assert_eq!(class as u32, canary.class);
        let probability = clr_learning::log_probability(&logits, class, f64::from(header.temperature)).exp();
        assert!((probability - f64::from(canary.probability)).abs() < 1e-5);
    }
}

#[test]
fn equal_seeds_give_equal_files_whatever_the_workers() {
    let (_folder, dataset) = task();
    let run = |seed, workers, budget| {
        let options = TrainOptions {
            seed,
            workers: Some(workers),
            image_cache_bytes: budget,
            ..options(RecipeChoice::Fixed(Recipe::Clr))
        };
        train(&backbone(), &dataset, &options, &mut ()).unwrap().bytes
    };
    let first = run(1, 1, 1 << 30);
    assert_eq!(run(1, 1, 1 << 30), first);
    assert_eq!(run(1, 3, 10_000), first);
    assert_ne!(run(2, 1, 1 << 30), first);
}

#[test]
fn auto_selects_a_recipe_that_validation_cannot_distinguish_from_the_best() {
    let (_folder, dataset) = task();
    let trained = train(&backbone(), &dataset, &options(RecipeChoice::default()), &mut ()).unwrap();
    let recipes: Vec<Recipe> = trained.candidates.iter().map(|candidate| candidate.recipe).collect();
    assert_eq!(recipes, [Recipe::Linear, Recipe::Bn, Recipe::Clr, Recipe::ClrFull]);
    assert!(
        trained.candidates[1..]
            .iter()
            .all(|trained_sites| trained_sites.bytes > trained.candidates[0].bytes)
    );
    let chosen = trained.candidates.iter().find(|candidate| candidate.chosen).unwrap();
    assert_eq!(chosen.recipe, trained.adapter.header.recipe);
    assert_eq!(chosen.accuracy, trained.validation.accuracy);
    let best = trained
        .candidates
        .iter()
        .map(|candidate| candidate.accuracy)
        .fold(0.0, f32::max);
    let images = trained.validation.images as f32;
    assert!(best - chosen.accuracy <= (best * (1.0 - best) / images).sqrt());
}

#[test]
fn no_trained_recipe_ends_clearly_below_the_head_on_validation() {
    let (_folder, dataset) = task();
    let linear = train(
        &backbone(),
        &dataset,
        &options(RecipeChoice::Fixed(Recipe::Linear)),
        &mut (),
    )
    .unwrap();
    for recipe in [Recipe::Bn, Recipe::ClrScale, Recipe::ClrFull] {
        let trained = train(&backbone(), &dataset, &options(RecipeChoice::Fixed(recipe)), &mut ()).unwrap();
        let (start, images) = (linear.validation.accuracy, linear.validation.images as f32);
        let error = (start * (1.0 - start) / images).sqrt();
        assert!(trained.validation.accuracy >= start - 2.0 * error, "{recipe}");
        assert_eq!(
            trained.history[0].validation_accuracy, linear.validation.accuracy,
            "{recipe}"
        );
    }
}

#[test]
fn the_papers_schedule_and_moved_statistics_run() {
    let (_folder, dataset) = task();
    for statistics in [
        NormStatistics::Batch { momentum: 0.1 },
        NormStatistics::Fixed { blend: 0.5 },
    ] {
        let mut options = options(RecipeChoice::Fixed(Recipe::Clr));
        let rates = crate::PerGroup::all(1e-2);
        options.schedule = Schedule {
            epochs: 12,
            batch: 8,
            rates,
            statistics,
            ..Schedule::paper()
        };
        options.encoding = Encoding::F32;
        let trained = train(&backbone(), &dataset, &options, &mut ()).unwrap();
        assert!(
            trained.validation.accuracy > 0.5,
            "{statistics:?}: {}",
            trained.validation.accuracy
        );
        assert_eq!(trained.validation.accuracy, trained.quantised_validation.accuracy);
    }
}

#[test]
fn invalid_options_are_refused_by_name() {
    let (_folder, dataset) = task();
    let mut options = options(RecipeChoice::Fixed(Recipe::Clr));
    options.schedule.smoothing = 1.5;
    let error = train(&backbone(), &dataset, &options, &mut ()).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::InvalidOption {
                option: "smoothing",
                ..
            }
        ),
        "{error}"
    );
    options.schedule.smoothing = 0.0;
    options.schedule.rates.kernel = f64::NAN;
    assert!(
        train(&backbone(), &dataset, &options, &mut ())
            .unwrap_err()
            .to_string()
            .contains("rates")
    );
}

#[test]
fn a_hopeless_rate_is_reported_as_divergence() {
    let (_folder, dataset) = task();
    let mut options = options(RecipeChoice::Fixed(Recipe::Clr));
    options.schedule.rates = crate::PerGroup::all(1e30);
    options.schedule.clip = None;
    let error = train(&backbone(), &dataset, &options, &mut ()).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Diverged {
                recipe: Recipe::Clr,
                ..
            }
        ),
        "{error}"
    );
}
