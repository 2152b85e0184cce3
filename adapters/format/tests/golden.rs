//! Files of every released format version stay readable.
//!
//! The golden files were written by
//! `cargo test --release -p clr-adapters --test main write_the_golden_files -- --ignored`, which never overwrites one.
//! A new format version gets additional files.

use std::{fs, path::PathBuf};

use clr_adapters::{
    Adapter, BackgroundId, Calibration, Canary, ChannelOrder, ClassFeatures, Digest, Encoding, Filter, Fit, Head,
    HeadEnergy, Header, Limits, Metrics, OwnScores, Preprocessing, Profile, Provenance, Ratios, Recipe, Release,
    SecretKey, SignedRelease, SignerClass, Site, SiteSteps, SiteWeights, StepSize, Steps, TaughtPoints, Terms, Trial,
    decode, encode, noise_image, sign, sign_release,
};

/// Returns the adapter of `docs/reference/adapter-format.md`, "Golden files". All values are exact in every encoding.
fn documented(version: u16) -> Adapter {
    let mut adapter = version_1();
    if version >= 2 {
        let header = &mut adapter.header;
        header.revision = 5;
        header.expires = Some(1_900_000_000);
        header.temperature = 1.5;
        header.trial = Some(Trial {
            frames: 300,
            max_latency_ms: Some(40),
            low_confidence: 0.5,
            max_low_confidence_fraction: 0.25,
        });
        header.calibration = Some(Calibration {
            before: 0.125,
            after: 0.0625,
        });
        let scale = |q: f32| q * q / 262_144.0;
        header.profile = Some(Profile {
            mean: vec![511.0 / 128.0, 0.0, -2.5],
            diagonal: vec![scale(496.0), scale(16.0), scale(3.0)],
            factor: vec![127.0 / 512.0, 1.0 / 512.0, -2.0 / 512.0],
            own_scores: OwnScores::Distances {
                typical: 0.75,
                limit: 1.5,
            },
            taught: Vec::new(),
        });
    }
    adapter
}

/// Returns the adapter with only the fields of version 1.
fn version_1() -> Adapter {
    // Units: kernels in 256ths with neighbours up to 31/256, biases in 128ths up to 511/128, scales q²/2¹⁸, head in
    // 512ths.
    let kernel = |centre: f32, sign: f32| {
        let neighbours = [31.0, -1.0, 2.0, -3.0, 4.0, -5.0, 6.0, -7.0].map(|value| sign * value / 256.0);
        let [a, b, c, d, e, f, g, h] = neighbours;
        [a, b, c, d, centre, e, f, g, h]
    };
    let scale = |q: f32| q * q.abs() / 262_144.0;
    Adapter {
        header: Header {
            task: "golden ✓".into(),
            labels: vec!["apple".into(), "pear".into(), "quince".into()],
            backbone: Digest([0xb0; 32]),
            recipe: Recipe::Clr,
            preprocessing: Preprocessing {
                height: 224,
                width: 192,
                fit: Fit::CenterCrop { fraction: 0.875 },
                filter: Filter::Bicubic,
                channel_order: ChannelOrder::Bgr,
                mean: [127.0, 126.5, 126.0],
                std: [128.0, 64.0, 32.0],
            },
            version: 300,
            parent: Some(Digest([0xa1; 32])),
            provenance: Provenance::DeviceTuned,
            metrics: Some(Metrics {
                accuracy: 0.9375,
                quantised_accuracy: 0.875,
                validation_images: 200,
                training_images: 1_000,
                data: Digest([0xda; 32]),
                seed: 42,
                created: 1_795_000_000,
            }),
            canaries: vec![Canary {
                size: [2, 1],
                pixels: vec![255, 0, 128, 1, 2, 3],
                class: 2,
                probability: 0.75,
                seed: None,
            }],
            revision: 0,
            expires: None,
            temperature: 1.0,
            trial: None,
            calibration: None,
            profile: None,
            class_features: None,
            steps: None,
        },
        sites: vec![
            Site {
                name: Some("stem".into()),
                weights: SiteWeights::Kernel([kernel(1.5, 1.0), kernel(-0.25, -1.0)].concat()),
                bias: vec![511.0 / 128.0, -1.0 / 128.0],
                steps: None,
            },
            Site {
                name: Some("stem.project".into()),
                weights: SiteWeights::Scale(vec![scale(496.0), scale(-16.0), scale(3.0)]),
                bias: vec![0.0, -511.0 / 128.0, 2.5],
                steps: None,
            },
        ],
        head: Head {
            features: 3,
            weight: [127.0, 1.0, -2.0, -127.0, 64.0, 0.0, 3.0, -4.0, 126.0]
                .map(|value| value / 512.0)
                .to_vec(),
            bias: vec![0.5, -0.25, 0.0],
        },
    }
}

/// Returns the adapter of version 3: that of version 2, with sites as differences, class features and a noise canary.
fn version_3() -> Adapter {
    let mut adapter = documented(2);
    let steps = SiteSteps {
        weights: StepSize(-16),
        bias: StepSize(-8),
    };
    let on = |step: StepSize, codes: &[i32]| codes.iter().map(|&code| step.value(code)).collect::<Vec<_>>();
    let kernels = [1, 0, 0, 0, -40, 0, 0, -2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0];
    adapter.sites[0].weights = SiteWeights::Kernel(on(steps.weights, &kernels));
    adapter.sites[0].bias = on(steps.bias, &[0, -1]);
    adapter.sites[1].weights = SiteWeights::Scale(on(steps.weights, &[0, 0, 0]));
    adapter.sites[1].bias = on(steps.bias, &[5, 0, 1_000]);
    for site in &mut adapter.sites {
        (site.name, site.steps) = (None, Some(steps));
    }
    let (head, mean, factor) = (StepSize(-36), StepSize(-7), StepSize(-13));
    adapter.head.weight = on(head, &[127, 1, -2, -127, 64, 0, 3, -4, 126]);
    let profile = adapter.header.profile.as_mut().unwrap();
    profile.mean = on(mean, &[7, 0, -3]);
    profile.diagonal = on(factor, &[30, 1, 9]);
    profile.factor = on(factor, &[4, 0, -2]);
    profile.own_scores = OwnScores::Ratios(Ratios {
        background: BackgroundId([0xbb, 1, 2, 3, 4, 5, 6, 7]),
        quantiles: [-1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.125],
        head: Some(HeadEnergy {
            median: 9.5,
            weight: 0.0625,
        }),
    });
    profile.taught = vec![TaughtPoints {
        class: 2,
        variance: 1.75,
        shift: -0.375,
        mean: on(mean, &[0, -12, 5]),
    }];
    adapter.header.steps = Some(Steps {
        head,
        profile_mean: mean,
        profile_factor: factor,
    });
    let (mean_step, deviation_step, direction_step) = (StepSize(-13), StepSize(-9), StepSize(-11));
    adapter.header.class_features = Some(ClassFeatures {
        mean: on(mean_step, &[10, -3, 0]),
        deviations: on(deviation_step, &[2, 0, 0, -1, 0, 0, -1, 0, 4]),
        directions: on(direction_step, &[3, 0, 1, 0, -2, 0]),
        rest: 0.0625,
        margins: vec![-7.5, -0.25, 1.0],
        mean_step,
        deviation_step,
        direction_step,
    });
    let canary = &mut adapter.header.canaries[0];
    (canary.size, canary.seed) = ([8, 6], Some(300));
    canary.pixels = noise_image(300, canary.size);
    adapter
}

/// The encodings of versions 1 and 2.
const SECTIONED: [Encoding; 3] = [Encoding::F32, Encoding::F16, Encoding::Int8];

fn path(version: u16, encoding: Encoding) -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join(format!("tests/golden/v{version}-{encoding}.clr"))
}

#[test]
fn every_version_decodes_to_the_documented_values() {
    for version in [1, 2] {
        for encoding in SECTIONED {
            let file = fs::read(path(version, encoding)).unwrap();
            assert!(file.len() < 4096);
            let decoded = decode(&file).unwrap();
            assert_eq!(decoded.adapter, documented(version));
            assert_eq!((decoded.encoding, decoded.format_version), (encoding, version));
        }
    }
}

/// The key of `docs/reference/adapter-format.md`, "Golden files".
fn key() -> SecretKey {
    SecretKey::from_bytes(&[0x5e; 32])
}

fn terms() -> Terms {
    Terms {
        created: Some(1_795_000_000),
        audience: vec!["fleet ✓".into(), "gate-*".into()],
    }
}

/// Returns the same adapter with the given kind of signature.
fn signed(kind: &str) -> Vec<u8> {
    let plain = encode(&documented(2), Encoding::Int8).unwrap();
    match kind {
        "publisher" => sign(&plain, SignerClass::Publisher, &key()),
        "device" => sign(&plain, SignerClass::Device, &key()),
        _ => sign_release(&plain, &terms(), &key()),
    }
    .unwrap()
}

fn signed_path(kind: &str) -> PathBuf {
    path(2, Encoding::Int8).with_file_name(format!("v2-int8-{kind}.clr"))
}

const SIGNED: [(&str, &str); 3] = [
    ("publisher", "f1edded5c64e"),
    ("device", "82167a8b0019"),
    ("release", "9d56b859c178"),
];

#[test]
fn every_kind_of_signature_is_read_and_written_to_the_same_bytes() {
    for (kind, digest) in SIGNED {
        let file = fs::read(signed_path(kind)).unwrap();
        assert_eq!(signed(kind), file, "{kind}");
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.adapter, documented(2));
        assert_eq!(decoded.digest.short(), digest, "{kind}");
        assert_eq!(decoded.signature.unwrap().key, key().public());
        assert_eq!(decoded.release.is_some(), kind == "release");
    }
    let file = fs::read(signed_path("release")).unwrap();
    let announced = SignedRelease::of_file(&file, &Limits::DEFAULT).unwrap().unwrap();
    assert!(announced.holds());
    let content = &file[..510 - 8];
    assert_eq!(
        announced.release,
        Release {
            task: "golden ✓".into(),
            version: 300,
            revision: 5,
            backbone: Digest([0xb0; 32]),
            created: Some(1_795_000_000),
            expires: Some(1_900_000_000),
            audience: terms().audience,
            length: content.len() as u64,
            content: Digest::of(content),
        }
    );
}

#[test]
fn version_3_decodes_to_the_documented_values_and_encodes_to_the_same_bytes() {
    let file = fs::read(path(3, Encoding::Compact)).unwrap();
    let decoded = decode(&file).unwrap();
    assert_eq!(decoded.adapter, version_3());
    assert_eq!((decoded.encoding, decoded.format_version), (Encoding::Compact, 3));
    assert_eq!(encode(&version_3(), Encoding::Compact).unwrap(), file);
    assert_eq!((file.len(), decoded.digest.short().as_str()), (416, "4d32dce69140"));
}

#[test]
fn version_2_encodes_to_the_same_bytes() {
    for encoding in SECTIONED {
        assert_eq!(
            encode(&documented(2), encoding).unwrap(),
            fs::read(path(2, encoding)).unwrap()
        );
    }
}

#[test]
fn every_version_has_the_documented_digests() {
    for (version, expected) in [
        (1, ["fc93e593dc60", "ef214c58f249", "ba1d0180e7d5"]),
        (2, ["eb2f34dacf8b", "bff653401a58", "fde016e8bcf6"]),
    ] {
        let digests = SECTIONED.map(|encoding| {
            decode(&fs::read(path(version, encoding)).unwrap())
                .unwrap()
                .digest
                .short()
        });
        assert_eq!(digests, expected);
    }
}

/// Neither a version 2 header in a file that claims version 1, nor the reverse, can be read.
#[test]
fn a_file_of_one_version_is_not_read_as_another() {
    for version in [1, 2] {
        let mut file = fs::read(path(version, Encoding::F32)).unwrap();
        file[8] = 3 - version as u8;
        let end = file.len() - 4;
        let crc = crc32fast::hash(&file[..end]).to_le_bytes();
        file[end..].copy_from_slice(&crc);
        assert!(decode(&file).is_err());
    }
}

#[test]
#[ignore = "writes the golden files that do not exist yet"]
fn write_the_golden_files() {
    for encoding in SECTIONED.into_iter().filter(|&encoding| !path(2, encoding).exists()) {
        fs::write(path(2, encoding), encode(&documented(2), encoding).unwrap()).unwrap();
    }
    if !path(3, Encoding::Compact).exists() {
        fs::write(
            path(3, Encoding::Compact),
            encode(&version_3(), Encoding::Compact).unwrap(),
        )
        .unwrap();
    }
    for (kind, _) in SIGNED.into_iter().filter(|(kind, _)| !signed_path(kind).exists()) {
        fs::write(signed_path(kind), signed(kind)).unwrap();
    }
}
