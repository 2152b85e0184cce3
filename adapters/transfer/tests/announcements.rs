//! Files with a release statement are announced by it. They also reach devices that do not support announcements.

use clr_adapters::{
    Adapter, ChannelOrder, Encoding, Filter, Fit, Head, Header, Limits, Preprocessing, Provenance, SecretKey,
    SignedRelease, Terms, delta, encode, sign_release,
};
use clr_transfer::{
    Begin, ClientError, Committed, Decoder, Digest, FailureCode, Kind, Request, Response, Session, SessionLimits,
};

use crate::{
    garbage::{HELLO, raw_frame, replies},
    line::{Faults, with_client},
    memory_device::MemoryDevice,
};

fn file(version: u64) -> Vec<u8> {
    let preprocessing = Preprocessing {
        height: 8,
        width: 8,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        std: [255.0; 3],
    };
    let labels = (0..40).map(|label| format!("label {label}")).collect::<Vec<_>>();
    let head = Head {
        features: 2,
        weight: (0..80u8).map(f32::from).collect(),
        bias: vec![0.5; 40],
    };
    let mut header = Header::new("birds", labels, Digest([7; 32]), preprocessing, Provenance::HostTrained);
    header.version = version;
    let adapter = Adapter {
        header,
        sites: vec![],
        head,
    };
    let plain = encode(&adapter, Encoding::F32).unwrap();
    sign_release(&plain, &Terms::default(), &SecretKey::from_bytes(&[1; 32])).unwrap()
}

fn written(request: &Request<'_>) -> Vec<u8> {
    postcard::to_allocvec(request).unwrap()
}

fn begin(file: &[u8], kind: Kind) -> Begin {
    Begin {
        digest: Digest::of(file),
        length: file.len() as u64,
        kind,
    }
}

#[test]
fn an_announcement_is_encoded_as_the_bytes_of_the_trailer() {
    let file = file(1);
    let announced = SignedRelease::of_file(&file, &Limits::DEFAULT).unwrap().unwrap();
    let trailer = announced.to_bytes();
    assert!(file.windows(trailer.len()).any(|bytes| bytes == trailer));
    let bytes = written(&Request::Begin(begin(&file, Kind::of_file(&file))));
    let plain = written(&Request::Begin(begin(&file, Kind::Adapter)));
    println!("begin: {} bytes, with its announcement {}", plain.len(), bytes.len());
    assert_eq!(bytes.len(), plain.len() + 2 + trailer.len());
    assert!(bytes.ends_with(&trailer));
    let Ok(Request::Begin(read)) = Request::read(&bytes) else {
        panic!("the message cannot be read")
    };
    assert_eq!(read, begin(&file, Kind::Release(Box::new(announced))));
    // Alters every byte of the statement. The result is another announcement, or none.
    for at in plain.len()..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x40;
        if let Ok(Request::Begin(begin)) = Request::read(&altered) {
            let Kind::Release(release) = begin.kind else {
                panic!("{begin:?}")
            };
            assert!(!release.holds(), "byte {at}");
        }
    }
}

/// A device cannot parse an unknown kind of transfer, and cannot distinguish such a message from a damaged one.
#[test]
fn an_unknown_kind_of_transfer_is_malformed_and_the_session_continues() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let unknown = [&[1][..], &[9; 32], &[5, 100, 3, 1, 2, 3]].concat();
    let mut bytes = crate::garbage::frame(1, 1, &HELLO);
    bytes.extend(raw_frame(b'Q', 1, 2, &unknown));
    bytes.extend(crate::garbage::frame(1, 3, &Request::Status));
    let answers = replies(&mut session, &mut Decoder::default(), &bytes);
    assert!(matches!(&answers[1].1, Response::Failed(failure) if failure.code == FailureCode::MALFORMED));
    assert!(matches!(answers[2].1, Response::Status(_)));
}

#[test]
fn a_client_announces_files_unless_the_device_does_not_support_it() {
    let (first, second) = (file(1), file(2));
    let delta = delta::diff(&first, &second).unwrap();
    for old in [false, true] {
        let device = MemoryDevice::default();
        device.0.lock().unwrap().old = old;
        for (bytes, kind) in [
            (&first, Kind::Adapter),
            (&delta, Kind::of_delta(Digest::of(&first), &second)),
        ] {
            let (pushed, ..) = with_client(
                &device,
                512,
                |_| Faults::default(),
                |client| client.push(bytes, kind).unwrap(),
            );
            assert!(matches!(pushed.committed, Committed::Adapter { .. }));
            assert_eq!((pushed.resumed, pushed.repeated), (0, 0));
        }
        assert!(device.holds(&first) && device.holds(&second));
        assert_eq!(device.0.lock().unwrap().announced, if old { 0 } else { 2 });
    }
}

#[test]
fn a_client_gives_up_if_the_device_loses_the_transfer_repeatedly() {
    let device = MemoryDevice::default();
    // Simulates a device on which other hosts displace the transfer repeatedly.
    device.0.lock().unwrap().forgetful = true;
    let (pushed, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| client.push(&file(1), Kind::Adapter),
    );
    assert!(matches!(pushed, Err(ClientError::Refused(failure)) if failure.code == FailureCode::NO_TRANSFER));
    assert!((2..20).contains(&device.0.lock().unwrap().announced));
}
