//! Hostile files: nothing is executed, nothing panics, and work and memory stay bounded.

use std::time::{Duration, Instant};

use super::super::{ImportError, torch};
use super::states::imported;
use super::torch_save::{Py, dict, text, zip};
use crate::Tensor;

fn tensor() -> Py {
    Py::Tensor(Tensor::new([1], vec![1.0]))
}

#[test]
fn a_file_that_would_run_a_command_is_refused_by_name_wherever_the_call_is() {
    for (module, name) in [
        ("posix", "system"),
        ("builtins", "exec"),
        ("subprocess", "Popen"),
        ("runpy", "run_path"),
    ] {
        let call = || Py::Call(module, name, vec![text("true")]);
        for root in [
            dict([("a", tensor()), ("b", call())]),
            Py::List(vec![Py::Object("argparse", "Namespace", vec![(text("x"), call())])]),
        ] {
            let error = imported(&zip(&root)).expect_err("it is refused");
            assert!(
                matches!(&error, ImportError::ForbiddenGlobal { global, .. } if *global == format!("{module}.{name}")),
                "{error}"
            );
        }
    }
}

/// Returns a raw pickle in a zip archive.
fn raw(opcodes: Vec<u8>) -> Vec<u8> {
    zip(&Py::Raw(opcodes))
}

#[test]
fn shared_and_cyclic_objects_are_visited_once() {
    let started = Instant::now();
    // Each dictionary contains the previous one twice, so 2^64 paths lead to the innermost one.
    let mut doubled = b"}q\0".to_vec();
    for level in 0..64_u8 {
        doubled.extend(b"}q");
        doubled.push(level + 1);
        for key in [b'a', b'b'] {
            doubled.extend([b'X', 1, 0, 0, 0, key, b'h', level, b's']);
        }
    }
    // A dictionary that contains itself, and an object that is its own state.
    let cyclic = b"}q\0X\x01\0\0\0ah\0s".to_vec();
    let own_state = b"cm\nC\n)\x81q\0h\0b".to_vec();
    for opcodes in [doubled, cyclic, own_state] {
        let weights = raw(opcodes);
        assert!(torch::read_zip(&weights, "x").expect("it is read").entries.is_empty());
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn deep_nesting_ends_and_long_names_are_bounded() {
    // A million dictionaries in each other.
    let mut deep = b"X\x01\0\0\0aq\x01".to_vec();
    deep.extend(b"}h\x01".repeat(300_000));
    deep.push(b'N');
    deep.extend(b"s".repeat(300_000));
    assert!(torch::read_zip(&raw(deep), "x").is_ok());
    // Forty levels of long keys, with half a million references to one tensor at the bottom.
    let long = "k".repeat(250);
    let mut file = Vec::new();
    let levels = 38;
    for _ in 0..levels {
        file.extend([b'}', b'X', 250, 0, 0, 0]);
        file.extend(long.bytes());
    }
    file.extend(b"}(");
    let (head, tail) = (file.clone(), b"s".repeat(levels));
    let mut entries = Vec::new();
    for number in 0..50_000 {
        let name = format!("{number:06}");
        entries.extend([b'X', 6, 0, 0, 0]);
        entries.extend(name.bytes());
        entries.extend(b"]");
    }
    entries.push(b'u');
    let error = torch::read_zip(&raw([head, entries, tail].concat()), "x")
        .err()
        .expect("it is refused");
    assert!(error.to_string().contains("names of more than"), "{error}");
}

#[test]
fn long_integers_cost_their_length_and_no_more() {
    let mut long = vec![0x8b];
    long.extend(4_000_000_u32.to_le_bytes());
    long.extend(vec![0x55; 4_000_000]);
    let error = imported(&raw(long)).expect_err("there are no weights");
    assert!(error.to_string().contains("no tensors"), "{error}");
}

#[test]
fn many_places_that_look_like_a_network_do_not_multiply_the_work() {
    // Two thousand first convolutions of a MobileNetV2, all views of one storage.
    let stem = Py::Tensor(Tensor::new([32, 3, 3, 3], vec![0.0; 864]));
    let places: Vec<String> = (0..2000)
        .map(|number| format!("m{number}.features.0.0.weight"))
        .collect();
    let started = Instant::now();
    let root = dict(places.iter().map(|name| (name.as_str(), stem.clone())));
    assert!(imported(&zip(&root)).is_err());
    assert!(started.elapsed() < Duration::from_secs(20));
}
