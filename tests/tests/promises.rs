//! Snapshots of the interface: keys and types of JSON documents, and help texts.
//!
//! A test fails if the interface changes. If the change is intended: increase the document's version if a key was
//! removed or changed its type, update docs/reference/json.md, and write the snapshots with `INSTA_UPDATE=always cargo
//! test --release --workspace`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    process::Command,
};

use serde_json::Value;

/// Compares the keys and value types of a document with the snapshot `json-<name>`.
pub(crate) fn check_document(name: &str, document: &Value) {
    let mut types = BTreeMap::new();
    collect("", document, &mut types);
    let mut text = format!("schema: {}\n", document["schema"]);
    for (key, kinds) in types.iter().filter(|(key, _)| *key != ".schema") {
        let kinds: Vec<&str> = kinds.iter().copied().collect();
        writeln!(text, "{}: {}", key.trim_start_matches('.'), kinds.join(" | ")).unwrap();
    }
    compare(&format!("json-{name}"), &text);
}

/// Compares the help of a program and of all its commands with the snapshot `help-<name>`.
pub(crate) fn check_help(name: &str, program: &dyn Fn() -> Command) {
    let mut text = String::new();
    let mut waiting = vec![Vec::<String>::new()];
    while let Some(command) = waiting.pop() {
        let output = program().args(&command).arg("--help").output().unwrap();
        assert!(output.status.success(), "{name} {}", command.join(" "));
        let help = String::from_utf8(output.stdout).unwrap();
        let title = [&[name.to_owned()], &command[..]].concat().join(" ");
        // The tests run the program under another name.
        let help = help.replace("clr-under-test", name);
        writeln!(text, "===== {title} --help\n{help}").unwrap();
        let inner = commands(&help).into_iter().rev();
        waiting.extend(inner.map(|inner| [&command[..], &[inner]].concat()));
    }
    compare(&format!("help-{name}"), &text);
}

fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Collects the types of all values below `path`. The elements of an array share a path.
fn collect(path: &str, value: &Value, types: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(elements) => {
            if elements.is_empty() {
                types.entry(format!("{path}[]")).or_default().insert("(empty)");
            }
            for element in elements {
                collect(&format!("{path}[]"), element, types);
            }
            return;
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(&format!("{path}.{key}"), value, types);
            }
            return;
        }
    };
    types.entry(path.to_owned()).or_default().insert(kind);
}

/// Returns the names listed under `Commands:` in a help text.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}
