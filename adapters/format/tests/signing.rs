//! A signature over a file's bytes authenticates every byte, and every other fault has a distinct refusal.

use std::sync::LazyLock;

use clr_adapters::{
    Digest, Encoding, Limits, Policy, Provenance, PublicKey, Refusal, SecretKey, SignerClass, Trust, admit, decode,
    encode, sign, signature,
};

use crate::{
    allocation,
    publishers::{STEP, key, plain, policy, publishers},
    sample,
};

/// Created once, because it takes Miri seconds.
static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust {
    publishers: publishers(),
    device: Some(key(9).public()),
    ..Trust::default()
});

fn trust() -> Trust {
    TRUST.clone()
}

/// Returns an unsigned file that a device tuned.
fn tuned() -> Vec<u8> {
    let mut adapter = sample::small();
    adapter.header.provenance = Provenance::DeviceTuned;
    encode(&adapter, Encoding::Int8).unwrap()
}

fn publisher(file: &[u8], seed: u8) -> Vec<u8> {
    sign(file, SignerClass::Publisher, &key(seed)).unwrap()
}

/// Returns the publisher's file, signed with the key that may sign for any task; created once.
fn signed() -> Vec<u8> {
    static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| publisher(&plain(), 1));
    SIGNED.clone()
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

#[test]
fn a_signed_file_is_admitted_with_its_signer() {
    let (plain, trust) = (plain(), trust());
    for (class, seed, plain) in [(SignerClass::Publisher, 1, plain), (SignerClass::Device, 9, tuned())] {
        let signed = sign(&plain, class, &key(seed)).unwrap();
        assert_eq!(signed.len(), plain.len() + 96);
        let admitted = admit(&signed, &policy(&trust)).unwrap();
        let signer = admitted.signer.unwrap();
        assert_eq!((signer.class, signer.key), (class, key(seed).public()));
        assert_eq!(admitted.decoded.adapter, decode(&plain).unwrap().adapter);
        assert_eq!(signature(&signed, &Limits::DEFAULT), Ok(Some(signer)));
        assert_eq!(signature(&plain, &Limits::DEFAULT), Ok(None));
    }
}

#[test]
fn signing_again_replaces_the_signature_and_leaves_the_signed_bytes() {
    let plain = plain();
    let once = publisher(&plain, 1);
    let twice = publisher(&once, 2);
    assert_eq!(publisher(&twice, 1), once);
    let signed = plain.len() - 8;
    assert_eq!(
        (&once[..signed], &twice[..signed]),
        (&plain[..signed], &plain[..signed])
    );
}

#[test]
fn every_altered_byte_is_refused_even_with_a_right_checksum() {
    let (signed, trust) = (signed(), trust());
    // Flips bits in every byte, starting at the signature.
    for at in (0..signed.len() - 4).rev().step_by(STEP) {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = signed.clone();
            altered[at] ^= flip;
            assert!(admit(&altered, &policy(&trust)).is_err(), "byte {at}");
            assert!(admit(&reseal(altered), &policy(&trust)).is_err(), "byte {at}, resealed");
        }
    }
    let mut altered = signed;
    altered[40] ^= 1;
    let key = key(1).public();
    assert_eq!(refusal(&reseal(altered)), Refusal::BadSignature { key });
}

#[test]
fn every_truncation_is_refused_for_its_length() {
    let signed = signed();
    for length in (0..signed.len()).step_by(STEP) {
        assert!(
            matches!(refusal(&signed[..length]), Refusal::WrongLength { .. }),
            "{length}"
        );
    }
    let longer = [&signed[..], &[0]].concat();
    assert!(matches!(refusal(&longer), Refusal::WrongLength { .. }));
}

#[test]
fn unknown_key_missing_signature_and_key_for_other_tasks_have_distinct_refusals() {
    assert_eq!(refusal(&plain()), Refusal::Unsigned);
    let foreign = key(7).public();
    let class = SignerClass::Publisher;
    assert_eq!(
        refusal(&publisher(&plain(), 7)),
        Refusal::UnknownKey { class, key: foreign }
    );
    let task = sample::small().header.task;
    let key = key(2).public();
    assert_eq!(refusal(&publisher(&plain(), 2)), Refusal::TaskNotAllowed { key, task });
    let open = Trust {
        allow_unsigned: true,
        ..trust()
    };
    assert_eq!(admit(&plain(), &policy(&open)).unwrap().signer, None);
}

#[test]
fn a_devices_signature_is_never_taken_for_a_publishers() {
    // Cases: the device's key on a publisher's file, the publisher's key on a tuned file, and either with a changed
    // kind byte.
    let device = |file: &[u8], seed| sign(file, SignerClass::Device, &key(seed)).unwrap();
    assert!(matches!(refusal(&device(&plain(), 9)), Refusal::WrongClass { .. }));
    assert!(matches!(refusal(&publisher(&tuned(), 1)), Refusal::WrongClass { .. }));
    assert!(matches!(refusal(&device(&tuned(), 1)), Refusal::UnknownKey { .. }));
    assert!(matches!(refusal(&publisher(&plain(), 9)), Refusal::UnknownKey { .. }));
    let both = Trust {
        device: Some(key(1).public()),
        ..trust()
    };
    let mut disguised = device(&plain(), 1);
    let kind = disguised.len() - 4 - 96 - 4;
    disguised[kind] = SignerClass::Publisher as u8;
    let refusal = admit(&reseal(disguised), &policy(&both)).unwrap_err();
    assert_eq!(refusal, Refusal::BadSignature { key: key(1).public() });
}

#[test]
fn another_backbone_and_an_expired_file_are_refused() {
    let (signed, trust) = (signed(), trust());
    let other = Policy {
        backbone: Digest::of(b"other"),
        ..policy(&trust)
    };
    assert!(matches!(admit(&signed, &other), Err(Refusal::WrongBackbone { .. })));
    let at = |now| admit(&signed, &Policy { now, ..policy(&trust) });
    assert!(at(Some(1_899_999_999)).is_ok());
    let expired = Refusal::Expired {
        expires: 1_900_000_000,
        now: 1_900_000_000,
    };
    assert_eq!(at(Some(1_900_000_000)), Err(expired));
    assert!(at(None).is_ok(), "a device without a clock cannot check expiry");
}

#[test]
fn keys_of_small_order_are_refused() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(PublicKey(neutral).to_string().parse::<PublicKey>().is_err());
    let text = key(1).public().to_string();
    assert_eq!(text.parse(), Ok(key(1).public()));
    assert!(text.to_uppercase().parse::<PublicKey>().is_err());
    assert!(text[..text.len() - 1].parse::<PublicKey>().is_err());
    assert!(key(1).reveal().parse::<PublicKey>().is_err());
    assert_eq!(key(1).reveal().parse::<SecretKey>().unwrap().public(), key(1).public());
    assert!(!format!("{:?}", key(1)).contains(&key(1).reveal()["ed25519-secret:".len()..]));
}

/// RFC 8032, section 7.1, test 1: the public key of a secret key.
#[test]
fn public_keys_are_those_of_the_rfc() {
    let secret = "ed25519-secret:9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(secret.parse::<SecretKey>().unwrap().public().to_string(), public);
}

#[test]
fn refusing_costs_no_memory_beyond_a_copy_of_the_file() {
    let (signed, trust) = (signed(), trust());
    for at in (0..signed.len() - 4).rev().step_by(STEP) {
        let mut hostile = signed.clone();
        let end = (at + 4).min(signed.len() - 4);
        hostile[at..end].fill(0xff);
        let hostile = reseal(hostile);
        let peak = allocation::peak(|| drop(admit(&hostile, &policy(&trust))));
        assert!(peak < 1 << 20, "{at}: {peak}");
    }
}
