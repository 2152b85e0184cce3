//! Learning on a quantised backbone: results are measured on bytes, as the engine computes them.

use clr_adapters::Adapter;
use clr_learning::{Network, log_probability};
use clr_onnx::{Backbone, Preprocess as _, RgbImage};
use clr_tuning::{teach, tune};

use super::common::{
    SIDE, backbone, check_old_logits, compact_publisher, images, options, parent, preprocessing, publisher, quantised,
    recognised,
};

/// Checks that the canary states what the engine answers.
fn check_canary(backbone: &Backbone, adapter: &Adapter) {
    let canary = &adapter.header.canaries[0];
    let pixels = RgbImage::from_raw(SIDE, SIDE, canary.pixels.clone()).unwrap();
    let network = Network::from_adapter(backbone, adapter).unwrap();
    let input = preprocessing().preprocess(&pixels);
    let features = network.image_features(&input, [SIDE as usize; 2]).unwrap();
    let temperature = f64::from(adapter.header.temperature);
    let answer = log_probability(&network.classify(&features), canary.class as usize, temperature).exp();
    let stated = f64::from(canary.probability);
    assert!((answer - stated).abs() < 1e-5 * answer, "{answer} {stated}");
}

#[test]
fn a_taught_class_is_recognised_and_old_logits_stay_bit_for_bit() {
    let backbone = quantised(&backbone());
    let publisher = compact_publisher(&backbone);
    let taught = teach(&backbone, &publisher, &images(&[2], 12)).unwrap().revision;
    check_old_logits(&backbone, &publisher.adapter, &taught.adapter);
    let recognised = recognised(&backbone, &taught.adapter);
    assert!(recognised > 15, "{recognised} of 30");
    check_canary(&backbone, &taught.adapter);
}

#[test]
fn a_tuned_adapter_states_what_the_engine_answers() {
    let backbone = quantised(&backbone());
    let publisher = publisher(&backbone);
    let examples = images(&[0, 1, 2], 12);
    let taught = teach(&backbone, &publisher, &examples).unwrap().revision;
    let taught = parent(&taught.file, Some(&publisher));
    let tuned = tune(&backbone, &taught, &examples, &(), &options(), &mut ()).unwrap();
    let tuned = tuned.candidate.adapter;
    assert_ne!(tuned.sites, taught.adapter.sites);
    check_canary(&backbone, &tuned);
}
