//! The decoders of frames and messages handle arbitrary bytes, and accept only the output of an encoder.

use clr_transfer::{Decoder, FrameEvent, Head, MAX_BODY, Request, Response, encode_frame};
use proptest::prelude::*;

/// Divisor of the number of bytes: larger under Miri, which takes minutes to generate them.
const FEWER: usize = if cfg!(miri) { 8 } else { 1 };

fn events(bytes: &[u8], pieces: usize) -> Vec<(FrameEvent, Vec<u8>)> {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for mut piece in bytes.chunks(pieces) {
        while !piece.is_empty() {
            let (taken, event) = decoder.feed(piece);
            assert!(taken > 0);
            piece = &piece[taken..];
            all.extend(event.map(|event| (event, decoder.body().to_vec())));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_accepted_and_their_division_into_pieces_has_no_effect(bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..2000 / FEWER), pieces in 1_usize..300) {
        let whole = events(&bytes, bytes.len().max(1));
        prop_assert_eq!(&whole, &events(&bytes, pieces));
    }

    #[test]
    fn a_frame_decodes_to_its_body(body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 9..3000 / FEWER), before in prop::collection::vec(1_u8.., 0..50)) {
        let mut bytes = before.clone();
        encode_frame(&mut body.clone(), &mut bytes);
        let found = events(&bytes, 100);
        prop_assert_eq!(found.last(), Some(&(FrameEvent::Frame, body)));
        prop_assert_eq!(found.len(), 1 + usize::from(!before.is_empty()));
    }

    #[test]
    fn a_message_parsed_from_any_bytes_is_encoded_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..20) {
        let mut bytes = bytes;
        bytes.insert(0, kind);
        if let Ok(request) = Request::read(&bytes) {
            let again = postcard::to_allocvec(&request).unwrap();
            prop_assert_eq!(Request::read(&again), Ok(request));
        }
        if let Ok(response) = Response::read(&bytes) {
            let again = postcard::to_allocvec(&response).unwrap();
            // Compares bytes, because NaN does not equal itself.
            prop_assert_eq!(postcard::to_allocvec(&Response::read(&again).unwrap()).unwrap(), again);
        }
        let _ = Head::split(&bytes);
    }
}

#[test]
fn the_largest_body_passes_and_a_larger_one_does_not() {
    for (length, expected) in [(MAX_BODY, FrameEvent::Frame), (MAX_BODY + 1000, FrameEvent::Damaged)] {
        let mut bytes = Vec::new();
        encode_frame(&mut vec![0xaa; length], &mut bytes);
        let found = events(&bytes, 1000);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, expected);
    }
}
