//! Faults of the header.

use clr_adapters::{DecodeError, Encoding, HeaderFault, InvalidAdapter, Limits, decode_with};

use super::{file, refused};

#[test]
fn every_header_error_names_the_field() {
    let refused = |change: fn(&mut Vec<u8>)| refused(Encoding::F32, |header, _| change(header));
    let fault = |field, fault| DecodeError::Header { field, fault };
    // The small adapter's header starts with the task: a length of 6, then `v`, `ö` in two bytes, `gel`; then 3 labels.
    assert_eq!(refused(Vec::clear), fault("task", HeaderFault::Ends));
    assert_eq!(refused(|header| header[2] = 0xff), fault("task", HeaderFault::Utf8));
    assert_eq!(
        refused(|header| header.truncate(30)),
        fault("backbone", HeaderFault::Ends)
    );
    let huge = refused(|header| _ = header.splice(7..8, [0xff, 0xff, 0xff, 0xff, 0x0f]));
    assert_eq!(
        huge,
        DecodeError::TooLarge {
            what: "labels",
            cap: 32_768,
            got: 0xffff_ffff
        }
    );
    let overlong = refused(|header| _ = header.splice(7..8, [0xff; 12]));
    assert_eq!(overlong, fault("labels", HeaderFault::Number));
    let many = refused(|header| _ = header.splice(7..8, [0xff, 0x7f]));
    assert_eq!(many, fault("labels", HeaderFault::Ends));
    let padded = refused(|header| _ = header.splice(7..8, [0x83, 0x00]));
    assert_eq!(padded, DecodeError::HeaderForm { offset: 7 });
    assert_eq!(
        refused(|header| header.extend([0; 3])),
        DecodeError::HeaderRest { left: 3 }
    );
    let two = refused(|header| header[7] = 2);
    assert!(
        matches!(two, DecodeError::Header { .. } | DecodeError::TooLarge { .. }),
        "{two}"
    );
    let control = refused(|header| header[1] = 7);
    assert!(matches!(
        control,
        DecodeError::Invalid(InvalidAdapter::ControlCharacter { .. })
    ));
    // The recipe comes after the task (7 bytes), the labels (1 + 6 + 5 + 7) and the backbone (32).
    assert_eq!(refused(|header| header[58] = 9), fault("recipe", HeaderFault::Choice));
    // The site table is at the end of the header. Its third site is 6 bytes: "project" shares its prefix with
    // "block.0.depthwise".
    let shared = refused(|header| {
        let at = header.len() - 11;
        assert_eq!(header[at..at + 2], [8, 7]);
        header[at] = 18;
    });
    assert_eq!(shared, fault("site name", HeaderFault::Shared { got: 18, have: 17 }));
    let less = refused(|header| {
        let at = header.len() - 11;
        header.splice(at..at + 2, [7, 8, b'.']);
    });
    assert!(matches!(less, DecodeError::HeaderForm { .. }), "{less}");
    let kind = refused(|header| *header.last_mut().unwrap() = 2);
    assert_eq!(kind, fault("site kind", HeaderFault::Choice));
}

#[test]
fn a_profile_beyond_the_readers_cap_is_refused_before_it_is_read() {
    let tight = Limits {
        profile_dimensions: 4,
        ..Limits::DEFAULT
    };
    let expected = DecodeError::TooLarge {
        what: "dimensions of the profile",
        cap: 4,
        got: 5,
    };
    assert_eq!(decode_with(&file(Encoding::F32), &tight), Err(expected));
}
