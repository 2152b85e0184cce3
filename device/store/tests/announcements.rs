//! Uploads without a trusted announcement never reach the disk before they are verified. Announced uploads never exceed
//! their announcement.

use std::sync::Arc;

use clr_adapters::{
    Digest, MinimumVersion, Refusal, Release, SecretKey, SignerClass, Terms, encode, sign, sign_release,
};
use clr_store::{
    Store, StoreError, StoreOptions,
    simulation::{Disk, PowerCut},
};

use crate::world::{
    self, NOW, adapter, announcement, announcement_of, confirmed, device, file, fresh, open, options, publisher, push,
    release,
};

/// Returns whether a refusal is the expected one.
type Check = fn(&Refusal) -> bool;

/// Returns a file signed over its bytes, which has no announcement.
fn older(task: &str, version: u64) -> Vec<u8> {
    let file = encode(&adapter(task, version, 0, 0), clr_adapters::Encoding::F32).unwrap();
    sign(&file, SignerClass::Publisher, &publisher()).unwrap()
}

fn open_with(change: impl FnOnce(&mut StoreOptions)) -> (Arc<Disk>, Store) {
    let disk = Arc::new(Disk::new());
    let mut options = options();
    change(&mut options);
    let store = Store::open(disk.clone(), options).unwrap();
    (disk, store)
}

fn refused(result: Result<u64, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_an_announcement_nothing_is_written_before_the_file_is_verified() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let before = disk.files();
    let bytes = older("birds", 2);
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    assert_eq!(store.begin(&digest, length).unwrap(), 0);
    for at in (0..bytes.len()).step_by(50) {
        let end = bytes.len().min(at + 50);
        // Simulates another connection: the store still knows the held bytes.
        assert_eq!(store.begin(&digest, length).unwrap(), at as u64);
        assert_eq!(store.append(&digest, at as u64, &bytes[at..end]).unwrap(), end as u64);
        assert_eq!(disk.files(), before, "after {end} bytes");
    }
    assert_eq!(store.verify().unwrap().uploads, 0);
    store.commit(&digest, NOW).unwrap();
    assert_ne!(disk.files(), before);
    assert_eq!(store.task("birds").unwrap().trial.unwrap().held.digest, digest);
    assert_eq!(store.written().uploads, 0);

    // Neither a file that was refused at the end nor an image that was only uploaded is written.
    let before = disk.files();
    let mut forged = older("birds", 3);
    forged[60] ^= 1;
    let unsigned = encode(&adapter("birds", 3, 0, 0), clr_adapters::Encoding::F32).unwrap();
    for bytes in [forged, unsigned, vec![7; 9_000]] {
        assert!(push(&store, &bytes, 100).is_err());
        assert_eq!(disk.files(), before);
    }
    store.begin(&Digest::of(b"image"), 5).unwrap();
    store.append(&Digest::of(b"image"), 0, b"image").unwrap();
    assert_eq!(store.upload(&Digest::of(b"image")).unwrap(), b"image");
    assert_eq!(disk.files(), before);
}

#[test]
fn hostile_announcements_are_refused_before_a_byte_is_written() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 5));
    let before = disk.files();
    let bytes = file("birds", 6);
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    let sound = announcement(&bytes).release;
    let stranger = SecretKey::from_bytes(&[9; 32]);
    let signed = |change: fn(&mut Release), key: &SecretKey| {
        let mut release = sound.clone();
        change(&mut release);
        release.sign(key).unwrap()
    };
    let mut forged = announcement(&bytes);
    forged.signature[3] ^= 1;
    let cases: [(&str, clr_adapters::SignedRelease, u64, Check); 10] = [
        ("another key", signed(|_| (), &stranger), length, |refusal| {
            matches!(refusal, Refusal::UnknownKey { .. })
        }),
        ("the device's own key", signed(|_| (), &device()), length, |refusal| {
            matches!(refusal, Refusal::UnknownKey { .. })
        }),
        ("a forged signature", forged, length, |refusal| {
            matches!(refusal, Refusal::BadSignature { .. })
        }),
        ("a shorter upload", announcement(&bytes), length - 1, |refusal| {
            matches!(refusal, Refusal::WrongLength { .. })
        }),
        ("a longer upload", announcement(&bytes), length + 1, |refusal| {
            matches!(refusal, Refusal::WrongLength { .. })
        }),
        ("an endless upload", announcement(&bytes), u64::MAX, |refusal| {
            matches!(refusal, Refusal::WrongLength { .. })
        }),
        ("an older version", announcement(&file("birds", 4)), length, |refusal| {
            matches!(
                refusal,
                Refusal::Downgrade {
                    highest_admitted: 5,
                    got: 4,
                    ..
                }
            )
        }),
        (
            "the same version in another file",
            signed(|release| release.version = 5, &publisher()),
            length,
            |refusal| {
                matches!(
                    refusal,
                    Refusal::Downgrade {
                        highest_admitted: 5,
                        got: 5,
                        ..
                    }
                )
            },
        ),
        (
            "an expired one",
            signed(|release| release.expires = Some(1_700_000_000), &publisher()),
            length,
            |refusal| matches!(refusal, Refusal::Expired { .. }),
        ),
        (
            "one for others",
            signed(|release| release.backbone = Digest([1; 32]), &publisher()),
            length,
            |refusal| matches!(refusal, Refusal::WrongBackbone { .. }),
        ),
    ];
    for (what, announced, length, expected) in cases {
        let refusal = refused(store.begin_announced(&digest, length, &announced, &digest, NOW));
        assert!(expected(&refusal), "{what}: {refusal:?}");
        assert_eq!(disk.files(), before, "{what}");
    }
    // Replaying the announcement of the confirmed adapter writes nothing.
    let known = file("birds", 5);
    let digest = Digest::of(&known);
    assert_eq!(world::begin(&store, &known).unwrap(), known.len() as u64);
    let other = Digest::of(b"other bytes");
    let replayed = store.begin_announced(&other, 50, &announcement(&known), &other, NOW);
    assert!(matches!(refused(replayed), Refusal::Downgrade { .. }));
    assert_eq!(disk.files(), before);
    assert!(store.commit(&digest, NOW).unwrap().already);
}

#[test]
fn junk_under_a_valid_announcement_is_bounded_by_it_and_discarded() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let before = disk.files();
    let bytes = file("birds", 2);
    let (announced, length) = (announcement(&bytes), bytes.len());
    let junk = vec![0x5a; length];
    for digest in [Digest::of(&bytes), Digest::of(&junk)] {
        store
            .begin_announced(&digest, length as u64, &announced, &digest, NOW)
            .unwrap();
        for at in (0..length).step_by(40) {
            store
                .append(&digest, at as u64, &junk[at..length.min(at + 40)])
                .unwrap();
        }
        let beyond = store.append(&digest, length as u64, &[1]);
        assert!(matches!(beyond, Err(StoreError::UploadLength { .. })));
        let parts: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|(name, _)| name.starts_with("incoming/"))
            .collect();
        assert_eq!(parts.len(), 1, "one publisher has one upload for a task");
        let overhead = announced.to_bytes().len() + 24 + 8 * length.div_ceil(40);
        assert_eq!(parts[0].1.len(), length + overhead);
        assert!(matches!(store.commit(&digest, NOW), Err(StoreError::Refused(_))));
        assert_eq!(disk.files(), before);
    }
    push(&store, &bytes, 40).unwrap();
}

#[test]
fn a_publisher_has_one_upload_for_each_task_and_a_growing_one_keeps_its_slot() {
    let (disk, store) = fresh();
    let parts = || -> Vec<String> {
        let names = disk.files().into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("incoming/")).collect()
    };
    let [first, second, newer] =
        [(1, 0), (1, 1), (2, 0)].map(|(version, variant)| world::published(&adapter("birds", version, 0, variant)));
    world::begin(&store, &first).unwrap();
    store.append(&Digest::of(&first), 0, &first[..50]).unwrap();
    // The other file of the same version is uploaded too, but held in memory.
    let on_disk = parts();
    world::begin(&store, &second).unwrap();
    store.append(&Digest::of(&second), 0, &second[..60]).unwrap();
    assert_eq!(parts(), on_disk);
    assert_eq!(world::begin(&store, &first).unwrap(), 50);
    assert_eq!(world::begin(&store, &second).unwrap(), 60);
    // A higher version takes the slot.
    world::begin(&store, &newer).unwrap();
    assert_eq!(parts(), [format!("incoming/{}.part", Digest::of(&newer))]);
    let gone = store.append(&Digest::of(&first), 50, &first[50..]);
    assert!(matches!(gone, Err(StoreError::NoSuchUpload { .. })));
    // Other tasks have separate slots.
    world::begin(&store, &file("cats", 1)).unwrap();
    assert_eq!(parts().len(), 2);
    for file in [second, newer] {
        push(&store, &file, 1_000).unwrap();
    }
}

#[test]
fn an_upload_on_the_disk_is_kept_only_while_its_announcement_holds() {
    let disk = Arc::new(Disk::new());
    let bytes = file("birds", 1);
    {
        let store = open(disk.clone());
        world::begin(&store, &bytes).unwrap();
        store.append(&Digest::of(&bytes), 0, &bytes[..80]).unwrap();
    }
    let disk = Arc::new(disk.power_cut(PowerCut::UnsyncedLost, 0));
    assert_eq!(world::begin(&open(disk.clone()), &bytes).unwrap(), 80);
    // The key is trusted for other tasks only.
    let mut revoked = options();
    revoked.trust.publishers[0].tasks = Some(vec!["cats".into()]);
    let store = Store::open(disk.clone(), revoked).unwrap();
    assert_eq!((store.problems(), store.verify().unwrap().uploads), (&[][..], 0));
    assert!(disk.files().iter().all(|(name, _)| !name.starts_with("incoming/")));
}

#[test]
fn an_upload_may_resume_without_its_announcement_and_unannounced_ones_do_not_survive_a_restart() {
    let disk = Arc::new(Disk::new());
    let (announced, plain) = (file("birds", 1), older("cats", 1));
    {
        let store = open(disk.clone());
        world::begin(&store, &announced).unwrap();
        store.append(&Digest::of(&announced), 0, &announced[..80]).unwrap();
        store.begin(&Digest::of(&plain), plain.len() as u64).unwrap();
        store.append(&Digest::of(&plain), 0, &plain[..80]).unwrap();
    }
    let store = open(disk);
    assert_eq!(
        store.begin(&Digest::of(&announced), announced.len() as u64).unwrap(),
        80
    );
    assert_eq!(store.begin(&Digest::of(&plain), plain.len() as u64).unwrap(), 0);
}

#[test]
fn beyond_the_daily_budget_uploads_stay_in_memory() {
    let bytes = file("birds", 1);
    // The budget covers twice the file, but not the heads of its frames.
    let (disk, store) = open_with(|options| options.caps.upload_bytes_per_day = 2 * bytes.len() as u64);
    let parts = || {
        disk.files()
            .iter()
            .filter(|(name, _)| name.starts_with("incoming/"))
            .count()
    };
    world::begin(&store, &bytes).unwrap();
    store.append(&Digest::of(&bytes), 0, &bytes[..200]).unwrap();
    assert_eq!(parts(), 1);
    push(&store, &bytes, 200).unwrap();
    let heads = 8 * bytes.len().div_ceil(200) as u64;
    assert_eq!(store.written().uploads, bytes.len() as u64 + heads);
    let next = file("birds", 2);
    world::begin(&store, &next).unwrap();
    store.append(&Digest::of(&next), 0, &next[..100]).unwrap();
    assert_eq!((parts(), world::begin(&store, &next).unwrap()), (0, 100));
    push(&store, &next, 200).unwrap();
    let written = store.written();
    assert_eq!(written.uploads, bytes.len() as u64 + heads);
    assert_eq!(written.adapters, (bytes.len() + next.len()) as u64);
    store.add_example("birds", Some("wren"), b"an image", NOW).unwrap();
    assert!(store.written().examples > 8);
}

#[test]
fn an_upload_in_memory_that_the_disk_has_no_room_for_is_kept() {
    use clr_store::simulation::{Fault, Faults};
    let disk = Arc::new(Disk::new());
    let faults = Arc::new(Faults::new(disk));
    let store = open(faults.clone());
    let bytes = older("birds", 1);
    let digest = Digest::of(&bytes);
    store.begin(&digest, bytes.len() as u64).unwrap();
    store.append(&digest, 0, &bytes).unwrap();
    faults.set(Some(Fault::Fail {
        at: 0,
        errno: 28,
        forever: true,
    }));
    assert!(matches!(store.commit(&digest, NOW), Err(StoreError::Io { .. })));
    faults.set(None);
    assert_eq!(store.begin(&digest, bytes.len() as u64).unwrap(), bytes.len() as u64);
    assert!(!store.commit(&digest, NOW).unwrap().already);
}

#[test]
fn audience_and_minimum_apply_to_received_and_to_serving_adapters() {
    let (_, store) = fresh();
    let plain = encode(&adapter("birds", 3, 0, 0), clr_adapters::Encoding::F32).unwrap();
    let terms = Terms {
        audience: vec!["north-*".into()],
        ..Terms::default()
    };
    let bytes = sign_release(&plain, &terms, &publisher()).unwrap();
    let trust = |name: &str, minimum| {
        let mut trust = options().trust;
        trust.names = Some(vec![name.into()]);
        trust.minimum = vec![MinimumVersion {
            task: "b*".into(),
            version: minimum,
        }];
        trust
    };
    store.set_trust(trust("south-1", 0));
    assert!(matches!(
        refused(world::begin(&store, &bytes)),
        Refusal::Audience { .. }
    ));
    let installed = store.install(&bytes, NOW).map(|_| 0);
    assert!(matches!(refused(installed), Refusal::Audience { .. }));
    store.set_trust(trust("north-1", 4));
    assert!(matches!(
        refused(world::begin(&store, &bytes)),
        Refusal::BelowMinimum { minimum: 4, got: 3, .. }
    ));
    store.set_trust(trust("north-1", 3));
    push(&store, &bytes, 100).unwrap();
    store.confirm("birds", &Digest::of(&bytes)).unwrap();
    assert!(store.serving("birds").is_ok());
    for changed in [trust("south-1", 3), trust("north-1", 4)] {
        store.set_trust(changed);
        let Err(StoreError::NothingServes { tried, .. }) = store.serving("birds") else {
            panic!("an adapter that is not for this device is not served");
        };
        assert_eq!(tried.len(), 1);
    }
    store.set_trust(trust("north-1", 3));
    assert!(store.serving("birds").is_ok());
    assert_eq!(release("birds", 1).audience, Vec::<String>::new());
    assert!(announcement_of("birds", 1).holds());
}
