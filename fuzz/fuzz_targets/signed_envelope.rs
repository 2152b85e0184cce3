//! Fuzz target of the signed envelope and the release statement: `clr_adapters::{signature, sign, sign_release, admit,
//! admit_release}` with a set of trusted keys.
//!
//! A mutation almost never gives a valid signature. The bytes are therefore tried unchanged, with the checksum
//! repaired, and signed by one of several keys: a trusted one, one that is trusted only for other tasks, the device's
//! own, and an unknown one. They are also tried as an announcement, unchanged and signed again.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;

use std::sync::LazyLock;

use clr_adapters::{
    Digest, Limits, MinimumVersion, Policy, Provenance, Refusal, SecretKey, SignedRelease, SignerClass, Terms, Trust,
    TrustedKey, admit, admit_release, decode, sign, sign_release, signature,
};
use libfuzzer_sys::fuzz_target;

/// Bytes of a trailer with a signature: four bytes, a key, a signature and a checksum. A trailer with a statement is
/// longer.
const TRAILER: usize = 4 + 32 + 64 + 4;
/// The minimum version for flowers.
const MINIMUM: u64 = 2;
/// Caps of a small device, so that a file can only use little memory.
const LIMITS: Limits = Limits {
    file_bytes: 64 << 10,
    parameters: 64 << 10,
    ..Limits::DEFAULT
};
/// Maximum bytes of memory while a file is checked: its parameters as `f32`, its texts, and copies of it.
const MOST: usize = 2 << 20;

struct World {
    keys: [SecretKey; 4],
    trust: Trust,
}

/// Keys 0 and 1 belong to publishers, of which the second is trusted only for flowers. Key 2 is the device's, and key 3
/// is unknown.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys = [1, 2, 9, 7].map(|seed| SecretKey::from_bytes(&[seed; 32]));
    let publishers = [(0, None), (1, Some(vec!["flowers*".to_owned()]))].map(|(key, tasks)| TrustedKey {
        key: keys[key].public(),
        tasks,
    });
    let trust = Trust {
        publishers: publishers.to_vec(),
        device: Some(keys[2].public()),
        allow_unsigned: false,
        names: Some(vec!["gate-7".to_owned(), "fleet-a".to_owned()]),
        minimum: vec![MinimumVersion {
            task: "flowers*".to_owned(),
            version: MINIMUM,
        }],
    };
    World { keys, trust }
});

fn check(file: &[u8], world: &World) {
    // The policy has the backbone that the file names, so that all checks are reached.
    let named = decode(file).map_or(Digest([0; 32]), |decoded| decoded.adapter.header.backbone);
    let policy = Policy {
        trust: &world.trust,
        backbone: named,
        now: Some(1_800_000_000),
        limits: LIMITS,
    };
    let mut judged = None;
    let peak = allocation::peak(|| judged = Some(admit(file, &policy)));
    assert!(peak <= MOST, "{peak} bytes for a file of {}", file.len());
    let Some(Ok(admitted)) = judged else { return };
    let signer = admitted.signer.expect("unsigned files are not taken");
    assert_eq!(signature(file, &LIMITS), Ok(Some(signer)));
    let header = &admitted.decoded.adapter.header;
    let key = match signer.class {
        SignerClass::Device => {
            assert!(header.provenance == Provenance::DeviceTuned && header.revision > 0);
            &world.keys[2]
        }
        SignerClass::Publisher => {
            assert_eq!(header.revision, 0);
            let own = |key: &&SecretKey| key.public() == signer.key;
            let key = world.keys[..2].iter().find(own).expect("a publisher's key");
            assert!(key.public() == world.keys[0].public() || header.task.starts_with("flowers"));
            key
        }
    };
    // Ed25519 signatures are a function of key and message, so this is the only valid file that the key can produce
    // from these bytes.
    let again = match &admitted.decoded.release {
        None => sign(file, signer.class, key),
        Some(release) => {
            assert!(release.is_for(world.trust.names.as_deref().unwrap_or_default()));
            let terms = Terms {
                created: release.created,
                audience: release.audience.clone(),
            };
            sign_release(file, &terms, key)
        }
    };
    assert_eq!(again.as_deref(), Ok(file), "admitted without its signature");
    assert!(!header.task.starts_with("flowers") || header.version >= MINIMUM);
    assert!(header.expires.is_none_or(|expires| expires > 1_800_000_000));

    // Without trusted keys the file is refused, and so is a file in which one signed byte was altered.
    let nobody = Policy {
        trust: &Trust::default(),
        ..policy.clone()
    };
    assert!(matches!(admit(file, &nobody), Err(Refusal::UnknownKey { .. })));
    let mut altered = file.to_vec();
    let at = usize::from(signer.bytes[0]) * usize::from(signer.bytes[1]) % (file.len() - TRAILER);
    altered[at] ^= 1 << (signer.bytes[2] % 8);
    assert!(admit(&sealed(altered), &policy).is_err());
}

/// Checks bytes as an announcement: they can be parsed only in canonical form, and admitted only if signed.
fn check_announcement(bytes: &[u8], world: &World) {
    let mut read = None;
    let peak = allocation::peak(|| read = SignedRelease::from_bytes(bytes).ok());
    assert!(peak <= 64 << 10, "{peak} bytes for an announcement of {}", bytes.len());
    let Some(announced) = read else { return };
    assert_eq!(announced.to_bytes(), bytes);
    let policy = Policy {
        trust: &world.trust,
        backbone: announced.release.backbone,
        now: Some(1_800_000_000),
        limits: LIMITS,
    };
    if admit_release(&announced, &policy).is_ok() {
        assert!(announced.holds() && announced.file_bytes() <= LIMITS.file_bytes as u64);
    }
    let Ok(signed) = announced.release.clone().sign(&world.keys[0]) else {
        return;
    };
    if admit_release(&signed, &policy).is_ok() {
        assert!(
            signed.release.revision == 0 && signed.release.is_for(world.trust.names.as_deref().unwrap_or_default())
        );
        let mut altered = signed;
        altered.release.version ^= 1;
        assert!(admit_release(&altered, &policy).is_err());
    }
}

/// The file with a right checksum.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(end) = file.len().checked_sub(4) {
        let crc = crc32fast::hash(&file[..end]).to_le_bytes();
        file[end..].copy_from_slice(&crc);
    }
    file
}

fuzz_target!(|data: &[u8]| {
    let world = &*WORLD;
    check(data, world);
    check_announcement(data, world);
    let file = sealed(data.to_vec());
    check(&file, world);
    // Only one signature per run, because it takes longer than everything else.
    let choice = file.last().copied().unwrap_or(0);
    let key = &world.keys[usize::from(choice & 3)];
    let signed = match choice & 12 {
        0 => sign(&file, SignerClass::Publisher, key),
        4 => sign(&file, SignerClass::Device, key),
        last => {
            let terms = Terms {
                created: None,
                audience: if last == 8 {
                    vec!["gate-*".to_owned()]
                } else {
                    Vec::new()
                },
            };
            sign_release(&file, &terms, key)
        }
    };
    if let Ok(signed) = signed {
        check(&signed, world);
    }
});
