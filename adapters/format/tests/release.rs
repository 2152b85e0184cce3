//! A release statement is authenticated completely, matches its file, and is verified before the file arrives.

use std::sync::LazyLock;

use clr_adapters::{
    DecodeError, Digest, HeaderFault, Limits, MinimumVersion, Refusal, Release, SignedRelease, SignerClass, Terms,
    Trust, admit, admit_release, decode, sign, sign_release,
};

use crate::{
    allocation,
    publishers::{NOW, STEP, key, plain, policy, publishers},
};

static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust {
    publishers: publishers(),
    names: Some(vec!["gate-7".into(), "fleet-a".into()]),
    ..Trust::default()
});

fn terms(audience: &[&str]) -> Terms {
    Terms {
        created: Some(NOW - 5),
        audience: audience.iter().map(|&pattern| pattern.to_owned()).collect(),
    }
}

fn signed_for(audience: &[&str]) -> Vec<u8> {
    sign_release(&plain(), &terms(audience), &key(1)).unwrap()
}

/// Returns the file signed for the policy's fleet; created once.
fn signed() -> Vec<u8> {
    static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| signed_for(&["fleet-*"]));
    SIGNED.clone()
}

fn announced(file: &[u8]) -> SignedRelease {
    SignedRelease::of_file(file, &Limits::DEFAULT).unwrap().unwrap()
}

fn refusal(file: &[u8]) -> Refusal {
    admit(file, &policy(&TRUST)).unwrap_err()
}

/// Recomputes the file's checksum.
fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 4;
    let crc = crc32fast::hash(&file[..end]).to_le_bytes();
    file[end..].copy_from_slice(&crc);
    file
}

/// Returns the content with a statement trailer of arbitrary contents.
fn with_trailer(content: &[u8], signed: &[u8]) -> Vec<u8> {
    let length = (signed.len() as u16).to_le_bytes();
    reseal([content, &[3, 0], &length, signed, &[0; 4]].concat())
}

fn content() -> Vec<u8> {
    let plain = plain();
    plain[..plain.len() - 8].to_vec()
}

/// The publisher's statement about the file, before signing.
fn statement() -> Release {
    announced(&signed()).release
}

#[test]
fn a_signed_file_contains_its_announcement_and_is_admitted() {
    let (file, plain) = (signed(), plain());
    let announced = announced(&file);
    let trailer = announced.to_bytes();
    println!(
        "unsigned {} bytes, signed over the bytes {}, with a statement {} (statement {}, announcement {})",
        plain.len(),
        sign(&plain, SignerClass::Publisher, &key(1)).unwrap().len(),
        file.len(),
        trailer.len() - 96,
        trailer.len(),
    );
    assert_eq!(file.len(), plain.len() + trailer.len());
    assert_eq!(announced.file_bytes(), file.len() as u64);
    assert_eq!(SignedRelease::from_bytes(&trailer).as_ref(), Ok(&announced));
    assert_eq!(admit_release(&announced, &policy(&TRUST)), Ok(()));
    let admitted = admit(&file, &policy(&TRUST)).unwrap();
    assert_eq!(admitted.signer, Some(announced.signature()));
    assert_eq!(admitted.decoded.release.as_ref(), Some(&announced.release));
    assert_eq!(admitted.decoded.adapter, decode(&plain).unwrap().adapter);
    assert_eq!(announced.release.audience, ["fleet-*"]);
    assert_eq!(announced.release.content, Digest::of(&content()));
    // A file signed over its bytes has no statement to announce.
    let older = sign(&plain, SignerClass::Publisher, &key(1)).unwrap();
    assert_eq!(SignedRelease::of_file(&older, &Limits::DEFAULT), Ok(None));
    assert_eq!(SignedRelease::of_file(&plain, &Limits::DEFAULT), Ok(None));
}

#[test]
fn signing_again_gives_the_same_file_and_replaces_any_signature() {
    let older = sign(&plain(), SignerClass::Publisher, &key(2)).unwrap();
    for file in [plain(), older, signed_for(&["others"]), signed()] {
        assert_eq!(sign_release(&file, &terms(&["fleet-*"]), &key(1)), Ok(signed()));
    }
    let back = sign(&signed(), SignerClass::Publisher, &key(1)).unwrap();
    assert_eq!(back, sign(&plain(), SignerClass::Publisher, &key(1)).unwrap());
}

#[test]
fn every_altered_byte_is_refused_even_with_a_right_checksum() {
    let signed = signed();
    for at in (0..signed.len() - 4).rev().step_by(STEP) {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = signed.clone();
            altered[at] ^= flip;
            assert!(admit(&altered, &policy(&TRUST)).is_err(), "byte {at}");
            assert!(admit(&reseal(altered), &policy(&TRUST)).is_err(), "byte {at}, resealed");
        }
    }
    let key = key(1).public();
    let mut altered = signed;
    altered[40] ^= 1;
    assert!(matches!(
        refusal(&reseal(altered)),
        Refusal::WrongContent { key: of, fault: DecodeError::ReleaseContent { .. } } if of == key
    ));
}

#[test]
fn every_altered_byte_of_an_announcement_is_refused() {
    let bytes = announced(&signed()).to_bytes();
    for at in (0..bytes.len()).step_by(STEP) {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            if let Ok(announced) = SignedRelease::from_bytes(&altered) {
                assert!(admit_release(&announced, &policy(&TRUST)).is_err(), "byte {at}");
            }
        }
    }
    for length in (0..bytes.len()).step_by(STEP) {
        assert!(SignedRelease::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    assert_eq!(
        SignedRelease::from_bytes(&[&bytes[..], &[0]].concat()),
        Err(DecodeError::ReleaseForm)
    );
}

#[test]
fn every_truncation_is_refused_for_its_length() {
    let signed = signed();
    for length in (0..signed.len()).step_by(STEP) {
        let refusal = refusal(&signed[..length]);
        assert!(matches!(refusal, Refusal::WrongLength { .. }), "{length}");
    }
    let longer = [&signed[..], &[0]].concat();
    assert!(matches!(refusal(&longer), Refusal::WrongLength { .. }));
}

#[test]
fn a_contradiction_of_statement_and_file_names_the_field() {
    type Change = fn(&mut Release);
    let changes: [(&str, Change); 5] = [
        ("task", |release| release.task.push('s')),
        ("version", |release| release.version += 1),
        // The provenance allows revisions here, so the refusal is about the revision alone and not about the signer's
        // class.
        ("revision", |release| release.revision = 1),
        ("backbone", |release| release.backbone = Digest([9; 32])),
        ("expires", |release| release.expires = None),
    ];
    for (name, change) in changes {
        let mut release = statement();
        change(&mut release);
        let file = with_trailer(&content(), &release.sign(&key(1)).unwrap().to_bytes());
        let found = refusal(&file);
        assert!(
            matches!(&found, Refusal::Contradiction { fault: DecodeError::ReleaseMismatch { field, .. }, .. } if *field == name),
            "{name}: {found:?}"
        );
        assert_eq!(found.code(), 15);
        assert!(
            found.to_string().contains(name) && found.to_string().contains("hint: "),
            "{found}"
        );
        assert!(decode(&file).is_err(), "{name}");
    }
    // A correct statement in the same trailer is accepted.
    let file = with_trailer(&content(), &statement().sign(&key(1)).unwrap().to_bytes());
    assert_eq!(file, signed());
}

#[test]
fn a_statement_about_other_bytes_is_refused() {
    let mut longer = statement();
    longer.length += 1;
    let mut other = statement();
    other.content = Digest([1; 32]);
    for release in [longer, other] {
        let file = with_trailer(&content(), &release.clone().sign(&key(1)).unwrap().to_bytes());
        assert!(matches!(refusal(&file), Refusal::WrongContent { .. }), "{release:?}");
    }
    // A signature over a file's bytes is not valid for a release statement, and a signature of a statement is not valid for
    // a file.
    let older = sign(&plain(), SignerClass::Publisher, &key(1)).unwrap();
    let forged = SignedRelease {
        signature: decode(&older).unwrap().signature.unwrap().bytes,
        ..announced(&signed())
    };
    let file = with_trailer(&content(), &forged.to_bytes());
    assert_eq!(refusal(&file), Refusal::BadSignature { key: key(1).public() });
}

#[test]
fn an_audience_is_one_of_the_devices_names() {
    for (audience, taken) in [
        (&[][..], true),
        (&["fleet-a"], true),
        (&["gate-7"], true),
        (&["gate-*", "nobody"], true),
        (&["*"], true),
        (&["fleet-b"], false),
        (&["fleet-", "gate"], false),
    ] {
        let file = signed_for(audience);
        let announced = announced(&file);
        let (admitted, expected) = (
            admit(&file, &policy(&TRUST)),
            admit_release(&announced, &policy(&TRUST)),
        );
        assert_eq!(admitted.is_ok(), taken, "{audience:?}");
        assert_eq!(admitted.map(drop), expected);
        if let Err(refusal) = expected {
            assert_eq!(refusal.code(), 16);
            let text = refusal.to_string();
            assert!(text.contains(audience[0]) && text.contains("`fleet-a`"), "{text}");
        }
    }
    // Readers other than devices accept all audiences.
    let host = Trust {
        names: None,
        ..TRUST.clone()
    };
    assert!(admit(&signed_for(&["fleet-b"]), &policy(&host)).is_ok());
    let nameless = Trust {
        names: Some(Vec::new()),
        ..TRUST.clone()
    };
    assert!(admit(&signed_for(&["*"]), &policy(&nameless)).is_err());
    assert!(admit(&signed_for(&[]), &policy(&nameless)).is_ok());
}

#[test]
fn a_minimum_version_applies_to_every_kind_of_file() {
    let header = decode(&plain()).unwrap().adapter.header;
    let with = |minimum: &[(&str, u64)]| Trust {
        minimum: minimum
            .iter()
            .map(|&(task, version)| MinimumVersion {
                task: task.into(),
                version,
            })
            .collect(),
        ..TRUST.clone()
    };
    let stated = signed();
    let older = sign(&plain(), SignerClass::Publisher, &key(1)).unwrap();
    let version = header.version;
    for (minimum, taken) in [
        (vec![(&header.task[..], version)], true),
        (vec![(&header.task[..], version + 1)], false),
        (vec![("other", version + 1)], true),
        (vec![("*", version), (&header.task[..1], 99)], true),
        (vec![("*", version + 1), (&header.task[..], 1)], false),
    ] {
        let trust = with(&minimum);
        for file in [&stated, &older] {
            assert_eq!(admit(file, &policy(&trust)).is_ok(), taken, "{minimum:?}");
        }
        let announced = admit_release(&announced(&stated), &policy(&trust));
        assert_eq!(announced.is_ok(), taken);
        if let Err(refusal) = announced {
            assert_eq!(refusal.code(), 17);
            assert!(refusal.to_string().contains(&(version + 1).to_string()));
        }
    }
}

#[test]
fn an_announcement_is_refused_as_the_file_would_be() {
    let sign = |change: fn(&mut Release), seed| {
        let mut release = statement();
        change(&mut release);
        release.sign(&key(seed)).unwrap()
    };
    let unchanged: fn(&mut Release) = |_| ();
    let at = |announced: &SignedRelease| admit_release(announced, &policy(&TRUST)).unwrap_err();
    assert!(matches!(at(&sign(unchanged, 7)), Refusal::UnknownKey { .. }));
    assert!(matches!(at(&sign(unchanged, 2)), Refusal::TaskNotAllowed { .. }));
    let mut forged = sign(unchanged, 1);
    forged.release.version += 1;
    assert!(matches!(at(&forged), Refusal::BadSignature { .. }));
    let other = sign(|release| release.backbone = Digest([9; 32]), 1);
    assert!(matches!(at(&other), Refusal::WrongBackbone { .. }));
    let over = sign(|release| release.expires = Some(NOW), 1);
    assert_eq!(at(&over), Refusal::Expired { expires: NOW, now: NOW });
    let tuned = sign(|release| release.revision = 1, 1);
    assert!(matches!(at(&tuned), Refusal::WrongClass { .. }));
    for length in [65 << 20, u64::MAX] {
        let mut release = statement();
        release.length = length;
        let huge = release.sign(&key(1)).unwrap();
        assert!(matches!(at(&huge), Refusal::TooLarge { .. }));
    }
}

#[test]
fn a_statement_is_capped_in_every_list_and_text() {
    let with = |audience: Vec<String>| {
        sign_release(
            &plain(),
            &Terms {
                created: None,
                audience,
            },
            &key(1),
        )
    };
    let pattern = "p".repeat(Release::MAX_PATTERN);
    let most = with(vec![pattern.clone(); Release::MAX_PATTERNS]).unwrap();
    assert!(announced(&most).to_bytes().len() <= SignedRelease::MAX_BYTES);
    assert!(admit(&most, &policy(&TRUST)).is_err());
    let too_large = |result: Result<Vec<u8>, DecodeError>| matches!(result, Err(DecodeError::TooLarge { .. }));
    assert!(too_large(with(vec![pattern.clone(); Release::MAX_PATTERNS + 1])));
    assert!(too_large(with(vec![pattern + "p"])));
    for text in ["", "a\nb", "\u{1b}[2J"] {
        assert_eq!(
            with(vec![text.into()]),
            Err(DecodeError::Release {
                field: "audience pattern",
                fault: HeaderFault::Text
            })
        );
    }
    // Invalid task names.
    for task in ["", "auto", "a\nb"] {
        let mut release = statement();
        release.task = task.into();
        assert!(
            matches!(release.sign(&key(1)), Err(DecodeError::Invalid(_))),
            "{task:?}"
        );
    }
}

#[test]
fn a_statement_must_be_canonical_and_have_a_known_layout() {
    let bytes = announced(&signed()).to_bytes();
    let mut newer = bytes.clone();
    newer[96] = 2;
    assert_eq!(
        SignedRelease::from_bytes(&newer),
        Err(DecodeError::ReleaseLayout { expected: 1, got: 2 })
    );
    // Encodes the task's length in two bytes in place of one.
    let longer = [&bytes[..97], &[bytes[97] | 0x80, 0], &bytes[98..]].concat();
    assert_eq!(SignedRelease::from_bytes(&longer), Err(DecodeError::ReleaseForm));
}

#[test]
fn huge_claims_cost_no_memory() {
    let bytes = announced(&signed()).to_bytes();
    for at in (96..bytes.len()).step_by(STEP) {
        let mut hostile = bytes.clone();
        let end = (at + 5).min(bytes.len());
        hostile[at..end].fill(0xff);
        let peak = allocation::peak(|| drop(SignedRelease::from_bytes(&hostile)));
        assert!(peak < 16 << 10, "{at}: {peak}");
        let file = with_trailer(&content(), &hostile);
        let peak = allocation::peak(|| drop(admit(&file, &policy(&TRUST))));
        assert!(peak < 1 << 20, "{at}: {peak}");
    }
    let endless = vec![0xff; 60_000];
    assert!(matches!(
        SignedRelease::from_bytes(&endless),
        Err(DecodeError::TooLarge { .. })
    ));
}
