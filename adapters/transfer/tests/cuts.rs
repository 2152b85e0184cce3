//! A transfer interrupted after any byte resumes. At most one chunk is sent twice, and the received bytes equal the
//! sent ones.

use clr_transfer::{ClientError, Kind};

use crate::{
    door::Spoken,
    line::{Faults, Random, with_client_that},
    memory_device::MemoryDevice,
};

const CHUNK: u32 = 64;
/// Step between the tested positions: larger under Miri.
const STEP: usize = if cfg!(miri) { 311 } else { 1 };
/// Divisor of the large file's size: larger under Miri.
const SMALLER: usize = if cfg!(miri) { 10 } else { 1 };

fn cut(after: u64) -> Faults {
    Faults {
        cut_after: Some(after),
        ..Faults::default()
    }
}

#[test]
fn cut_at_every_byte_of_a_small_transfer_it_resumes_and_sends_at_most_one_chunk_twice() {
    Spoken::ALL.into_iter().for_each(small_transfer);
}

fn small_transfer(speaks: Spoken) {
    let file = Random(1).bytes(300);
    let whole = {
        let device = MemoryDevice::default();
        with_client_that(
            speaks,
            &device,
            CHUNK,
            |_| Faults::default(),
            |client| client.push(&file, Kind::Adapter).unwrap(),
        )
        .1
    };
    assert!(whole > 600, "{whole} bytes in all");
    for after in (0..=whole).step_by(STEP) {
        let device = MemoryDevice::default();
        let faults = |connection| if connection == 0 { cut(after) } else { Faults::default() };
        let (pushed, ..) = with_client_that(speaks, &device, CHUNK, faults, |client| {
            client.push(&file, Kind::Adapter).unwrap()
        });
        assert!(device.holds(&file), "cut after {after}");
        assert!(pushed.repeated <= u64::from(CHUNK), "cut after {after}: {pushed:?}");
        assert_eq!(pushed.sent, file.len() as u64 + pushed.repeated, "cut after {after}");
        assert_eq!(device.0.lock().unwrap().commits, 1, "cut after {after}");
    }
}

#[test]
fn cut_at_every_chunk_of_a_large_transfer_each_connection_continues_where_the_last_one_stopped() {
    Spoken::ALL.into_iter().for_each(large_transfer);
}

fn large_transfer(speaks: Spoken) {
    let file = Random(2).bytes(40_000 / SMALLER);
    let device = MemoryDevice::default();
    // Every connection lasts for the greeting and about one chunk of 1,024 bytes before it is cut.
    let faults = |_| cut(1_600 + speaks.more());
    let (pushed, ..) = with_client_that(speaks, &device, 1024, faults, |client| {
        client.push(&file, Kind::Adapter).unwrap()
    });
    assert!(device.holds(&file));
    assert!(pushed.connections as usize >= file.len() / 1024, "{pushed:?}");
    // If the cut falls between a chunk and its reply, the device has the chunk and it is not sent again.
    assert!(pushed.repeated <= u64::from(pushed.connections) * 1024, "{pushed:?}");
    for after in (0..80 / SMALLER as u64)
        .step_by(STEP.min(4))
        .map(|step| 200 + speaks.more() + 551 * step)
    {
        let device = MemoryDevice::default();
        let faults = |connection| if connection == 0 { cut(after) } else { Faults::default() };
        let (pushed, ..) = with_client_that(speaks, &device, 1024, faults, |client| {
            client.push(&file, Kind::Adapter).unwrap()
        });
        assert!(
            device.holds(&file) && pushed.repeated <= 1024,
            "cut after {after}: {pushed:?}"
        );
    }
}

#[test]
fn another_client_resumes_an_interrupted_transfer() {
    Spoken::ALL.into_iter().for_each(another_client);
}

fn another_client(speaks: Spoken) {
    let file = Random(3).bytes(if cfg!(miri) { 6_000 } else { 10_000 });
    let device = MemoryDevice::default();
    let (first, ..) = with_client_that(
        speaks,
        &device,
        1024,
        |_| cut(100),
        |client| client.push(&file, Kind::Adapter),
    );
    assert!(matches!(first, Err(ClientError::Lost { .. })), "{first:?}");
    let (left, ..) = with_client_that(
        speaks,
        &device,
        1024,
        |n| if n == 0 { cut(5_000 + speaks.more()) } else { cut(10) },
        |client| client.push(&file, Kind::Adapter),
    );
    assert!(left.is_err());
    let (second, ..) = with_client_that(
        speaks,
        &device,
        1024,
        |_| Faults::default(),
        |client| client.push(&file, Kind::Adapter).unwrap(),
    );
    assert!(second.resumed >= 3 * 1024, "{second:?}");
    assert_eq!(second.sent, file.len() as u64 - second.resumed);
    assert!(device.holds(&file));
}

#[test]
fn a_pull_interrupted_at_every_byte_gives_the_file() {
    Spoken::ALL.into_iter().for_each(pull);
}

fn pull(speaks: Spoken) {
    let file = Random(4).bytes(300);
    for after in (0..1_300 + speaks.more()).step_by(STEP) {
        let device = MemoryDevice::with_task("birds", &file);
        let faults = |connection| if connection == 0 { cut(after) } else { Faults::default() };
        let (pulled, ..) = with_client_that(speaks, &device, CHUNK, faults, |client| client.pull("birds").unwrap());
        assert_eq!(pulled.bytes, file, "cut after {after}");
    }
}

#[test]
fn a_request_that_must_not_be_repeated_is_executed_once_or_reported_as_uncertain() {
    Spoken::ALL.into_iter().for_each(once);
}

fn once(speaks: Spoken) {
    let mut uncertain = 0;
    for after in (0..500 + speaks.more()).step_by(STEP.div_ceil(5)) {
        let device = MemoryDevice::with_task("birds", b"file");
        let faults = |connection| if connection == 0 { cut(after) } else { Faults::default() };
        let (answer, ..) = with_client_that(speaks, &device, CHUNK, faults, |client| client.rollback("birds"));
        let done = device.0.lock().unwrap().acts.len();
        match answer {
            Ok(()) => assert_eq!(done, 1, "cut after {after}"),
            Err(ClientError::Uncertain { request: "rollback" }) => {
                uncertain += 1;
                assert!(done <= 1, "cut after {after}");
            }
            Err(error) => panic!("cut after {after}: {error}"),
        }
    }
    assert!(uncertain > 0);
}
