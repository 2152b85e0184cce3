//! Opaque steps: writes their nodes under new names, and the metadata entry that lists them.

use std::collections::HashMap;

use super::builder::Builder;
use crate::{metadata::StepEntry, opaque::Opaque, proto::NodeProto};

impl Builder {
    pub(super) fn step(&mut self, name: &str, step: &Opaque, inputs: &[&str], output: &str) {
        let mut values: HashMap<String, String> = inputs
            .iter()
            .enumerate()
            .map(|(index, &input)| (Opaque::input_name(index), input.to_owned()))
            .collect();
        values.insert(Opaque::OUTPUT.to_owned(), output.to_owned());
        for tensor in &step.graph().initializer {
            let inner = tensor.name.clone().unwrap_or_default();
            let outer = self.value(&format!("{name}.{inner}"));
            let mut tensor = tensor.clone();
            tensor.name = Some(outer.clone());
            self.raw_constant(tensor);
            values.insert(inner, outer);
        }
        let mut nodes = Vec::with_capacity(step.graph().node.len());
        for node in &step.graph().node {
            for inner in &node.output {
                if !inner.is_empty() && !values.contains_key(inner) {
                    let outer = self.value(&format!("{name}.{inner}"));
                    values.insert(inner.clone(), outer);
                }
            }
            let last = node.output.iter().any(|inner| inner == Opaque::OUTPUT);
            let own = if last {
                name.to_owned()
            } else {
                self.helper(&format!("{name}.{}", nodes.len()))
            };
            let renamed = |names: &[String]| {
                names
                    .iter()
                    .map(|inner| values.get(inner).cloned().unwrap_or_default())
                    .collect()
            };
            let node = NodeProto {
                input: renamed(&node.input),
                output: renamed(&node.output),
                name: Some(own.clone()),
                ..node.clone()
            };
            nodes.push(own);
            self.raw_node(node);
        }
        self.steps.push(StepEntry {
            name: name.to_owned(),
            nodes,
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.to_owned(),
            shape: step.output().dims().to_vec(),
            single: step.is_single(),
        });
    }
}
