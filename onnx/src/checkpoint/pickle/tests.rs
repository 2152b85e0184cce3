//! Tests of the pickle interpreter.

use proptest::prelude::*;

use super::*;

fn malformed(bytes: &[u8]) -> String {
    match unpickle(bytes).expect_err("it is refused").reason {
        Reason::Malformed(reason) => reason,
        Reason::Global(global) => panic!("refused for {global}"),
    }
}

#[test]
fn a_pickle_that_calls_anything_is_refused_by_name() {
    // Cases: os.system("true") as a protocol 0 name within protocol 2; builtins.eval by STACK_GLOBAL of protocol 4.
    let cases: [(&[u8], &str); 5] = [
        (b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.", "os.system"),
        (
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
            "builtins.eval",
        ),
        (b"\x80\x02csubprocess\nPopen\n.", "subprocess.Popen"),
        (b"\x80\x02ctorch.hub\nload\n.", "torch.hub.load"),
        // Deep inside a harmless object's state.
        (
            b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\0\0\0acposix\nsystem\n)Rsb.",
            "posix.system",
        ),
    ];
    for (bytes, name) in cases {
        assert_eq!(
            unpickle(bytes).expect_err("it is refused").reason,
            Reason::Global(name.into())
        );
    }
}

#[test]
fn objects_of_other_classes_are_recorded_and_not_created() {
    // Cases: argparse.Namespace(lr=1) by NEWOBJ and BUILD; a numpy scalar by REDUCE; a dictionary subclass by SETITEM.
    let namespace = unpickle(b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb.").expect("it is read");
    let scalar = unpickle(b"\x80\x02cnumpy.core.multiarray\nscalar\nNU\x02\xff\xfe\x86R.").expect("it is read");
    let dictionary = unpickle(b"\x80\x02cbox\nBox\n)\x81X\x01\0\0\0kK\x07s.").expect("it is read");
    let instance = |unpickled: &Unpickled| match unpickled.object(unpickled.root) {
        Some(Object::Instance(instance)) => (unpickled.name(instance.class).to_owned(), instance.clone()),
        other => panic!("{other:?}"),
    };
    let (class, object) = instance(&namespace);
    assert_eq!(class, "argparse.Namespace");
    let state = namespace
        .entries(object.state.expect("it has attributes"))
        .expect("it is a dictionary");
    assert_eq!(state["lr"], Value::Int(1));
    assert_eq!(instance(&scalar).0, "numpy.core.multiarray.scalar");
    let (class, object) = instance(&dictionary);
    assert_eq!((class.as_str(), object.items.len()), ("box.Box", 1));
}

#[test]
fn bytes_are_places_in_the_pickle() {
    for bytes in [&b"\x80\x03C\x02ab."[..], b"\x80\x05\x96\x02\0\0\0\0\0\0\0ab."] {
        let unpickled = unpickle(bytes).expect("it is read");
        let Some(Object::Bytes(place)) = unpickled.object(unpickled.root) else {
            panic!("{unpickled:?}");
        };
        assert_eq!(&bytes[place.clone()], b"ab");
    }
}

#[test]
fn sets_and_long_integers_are_skipped() {
    let mut long = b"\x80\x04\x8b\x00\x00\x01\x00".to_vec();
    long.extend(vec![0x7f; 0x1_0000]);
    long.push(b'.');
    for bytes in [
        &b"\x80\x04\x8f(K\x01K\x02\x90."[..],
        b"\x80\x04(K\x01\x91.",
        b"\x80\x02\x8a\x11\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0.",
        &long,
    ] {
        let unpickled = unpickle(bytes).expect("it is read");
        assert_eq!(unpickled.object(unpickled.root), Some(&Object::Opaque));
        assert_eq!(unpickled.consumed, bytes.len());
    }
    assert_eq!(
        malformed(b"\x80\x02\x8b\xff\xff\xff\x7f"),
        "ends 2147483647 bytes short"
    );
}

#[test]
fn opcodes_of_other_pickles_are_unknown() {
    for opcode in [b'i', b'o', 0x82, 0x83, 0x84, b'P', 0x97, 0x98] {
        assert_eq!(
            malformed(&[0x80, 2, opcode]),
            format!("opcode 0x{opcode:02x}, which no checkpoint uses")
        );
    }
}

#[test]
fn names_without_end_are_bounded() {
    let mut bytes = b"\x80\x02".to_vec();
    for number in 0..=MAX_NAMES {
        bytes.extend(format!("cm\nn{number}\n0").bytes());
    }
    bytes.extend(b"N.");
    assert_eq!(
        malformed(&bytes),
        format!("more than {MAX_NAMES} different Python names")
    );
}

#[test]
fn numbers_and_texts_keep_their_values() {
    let cases: [(&[u8], Value); 8] = [
        (b"K\xff.", Value::Int(255)),
        (b"M\x01\x02.", Value::Int(513)),
        (b"J\xfe\xff\xff\xff.", Value::Int(-2)),
        (b"\x8a\x00.", Value::Int(0)),
        (b"\x8a\x02\x00\xff.", Value::Int(-256)),
        (
            b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
            Value::Int(119_547_037_146_038_801_333_356),
        ),
        (b"G\x3f\xe8\0\0\0\0\0\0.", Value::Float(0.75)),
        (b"\x89.", Value::Bool(false)),
    ];
    for (bytes, value) in cases {
        assert_eq!(unpickle(bytes).expect("it is read").root, value);
    }
    for bytes in [
        &b"X\x02\0\0\0\xc3\xa9."[..],
        b"\x8c\x02\xc3\xa9.",
        b"\x8d\x02\0\0\0\0\0\0\0\xc3\xa9.",
    ] {
        let unpickled = unpickle(bytes).expect("it is read");
        assert_eq!(
            (unpickled.text(unpickled.root), unpickled.consumed),
            (Some("é"), bytes.len())
        );
    }
}

#[test]
fn nesting_and_cycles_neither_overflow_the_stack_nor_leak() {
    let mut deep = b"\x80\x02".to_vec();
    deep.push(b')');
    deep.extend(std::iter::repeat_n(0x85, 1_000_000));
    deep.push(b'.');
    assert!(unpickle(&deep).is_ok());
    // A list that contains itself.
    assert!(unpickle(b"\x80\x02]q\0h\0a.").is_ok());
}

#[test]
fn work_is_bounded() {
    let endless = vec![b'N'; MAX_OPCODES + 1];
    assert_eq!(malformed(&endless), format!("more than {MAX_OPCODES} opcodes"));
    assert_eq!(malformed(b"X\xff\xff\xff\xff"), "ends 4294967295 bytes short");
    assert_eq!(
        malformed(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
        "ends 18446744073709551615 bytes short"
    );
    // Creating an OrderedDict from the same long list many times would take quadratic time.
    let mut copies = b"\x80\x02ccollections\nOrderedDict\nq\0](".to_vec();
    copies.extend(b"NN\x86".repeat(3000));
    copies.extend(b"e\x85q\x01");
    copies.extend(b"h\0h\x01R0".repeat(3000));
    copies.push(b'.');
    assert_eq!(malformed(&copies), format!("more than {MAX_OPCODES} entries"));
}

#[test]
fn values_below_a_mark_cannot_be_popped() {
    for bytes in [
        &b"N(0000."[..],
        b"N(.",
        b"N(\x85.",
        b"t.",
        b"N(q\0.",
        b"R.",
        b"s.",
        b"a.",
        b"Q.",
    ] {
        malformed(bytes);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_machine_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpickle(&bytes);
    }

    #[test]
    fn no_sequence_of_known_opcodes_makes_the_machine_panic(
        opcodes in proptest::collection::vec(proptest::sample::select(&b"\x80\x95.N\x88\x89KMJ\x8a\x8bGX\x8c\x8dUTBC\x8e\x81\x92\x8f\x90\x91\x96(012)]}tl\x85\x86\x87aesuqr\x94hjc\x93RbQ\x00\x01\x02\n"[..]), 0..300)
    ) {
        let _ = unpickle(&opcodes);
    }
}
