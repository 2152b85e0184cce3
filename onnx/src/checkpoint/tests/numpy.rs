//! Pickles of `NumPy` arrays.

use super::super::{ImportError, NumpyArray, numpy_arrays};

/// Returns what `NumPy` 1.26 writes (protocol 4) for an array of the dimensions 2 and 3 and the type `element`.
fn pickle(element: &str, order: &str, column_major: bool) -> Vec<u8> {
    let mut bytes = b"\x80\x04\x95\x82\0\0\0\0\0\0\0".to_vec();
    bytes.extend(b"\x8c\x15numpy.core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94");
    bytes.extend(b"\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\0\x85\x94C\x01b\x94\x87\x94R\x94");
    bytes.extend(b"(K\x01K\x02K\x03\x86\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02");
    bytes.extend(element.as_bytes());
    bytes.extend(b"\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01");
    bytes.extend(order.as_bytes());
    bytes.extend(b"\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b");
    bytes.push(if column_major { 0x88 } else { 0x89 });
    bytes.extend(b"B\x06\0\0\0abcdef\x94t\x94b.");
    bytes
}

fn refusal(pickle: &[u8]) -> String {
    let error = numpy_arrays(pickle, "w.pkl").expect_err("it is refused").to_string();
    assert!(error.starts_with("w.pkl: "), "{error}");
    error
}

#[test]
fn a_plain_array_is_read() {
    let bytes = pickle("u1", "|", false);
    let array = NumpyArray {
        name: String::new(),
        shape: vec![2, 3],
        element: "u1".to_owned(),
        bytes: b"abcdef",
    };
    assert_eq!(numpy_arrays(&bytes, "w.pkl").expect("it is read"), [array]);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = pickle("u1", "|", false);
    for length in 0..bytes.len() {
        assert!(numpy_arrays(&bytes[..length], "w.pkl").is_err(), "{length}");
    }
}

#[test]
fn a_name_that_arrays_do_not_need_is_refused() {
    let attack = numpy_arrays(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.", "w.pkl").expect_err("it is refused");
    assert!(matches!(attack, ImportError::ForbiddenGlobal { .. }), "{attack}");
    let other = refusal(b"\x80\x03cargparse\nNamespace\n)\x81.");
    assert!(
        other.contains("refers to `argparse.Namespace`") && other.contains("hint: "),
        "{other}"
    );
}

#[test]
fn other_orders_and_sizes_than_stated_are_refused() {
    for (bytes, reason) in [
        (pickle("u1", ">", false), "byte order"),
        (pickle("u1", "|", true), "column-major"),
        (pickle("f4", "<", false), "6 bytes do not fill [2, 3] of f4"),
        (pickle("O8", "|", false), "expected numbers, got `O8`"),
    ] {
        let error = refusal(&bytes);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn shared_and_cyclic_containers_are_refused() {
    // A list that contains itself, and a dictionary with one list under two keys.
    for bytes in [
        &b"\x80\x03]q\0h\0a."[..],
        b"\x80\x03}X\x01\0\0\0a]q\0sX\x01\0\0\0bh\0s.",
    ] {
        let error = refusal(bytes);
        assert!(error.contains("shared or cyclic"), "{error}");
    }
    assert!(refusal(b"\x80\x03K\x01.").contains("expected an array, got another value"));
}
