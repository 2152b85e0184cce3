//! Shapes of matrix products.

use std::collections::HashMap;

use super::{Dim, Info, Kind, Node, broadcast, within_images};

/// Returns whether this file infers the operator.
pub(super) fn is_known(operator: &str) -> bool {
    matches!(operator, "Einsum" | "Gemm" | "MatMul")
}

pub(super) fn infer(node: &Node<'_>) -> Result<Info, String> {
    let dims = match node.source.operator() {
        "Einsum" => einsum(node)?,
        "Gemm" => {
            let side = |index: usize, flag: &str, place: usize| -> Result<Dim, String> {
                let place = if node.flag(flag, false)? { 1 - place } else { place };
                node.input(index)?
                    .dims
                    .get(place)
                    .copied()
                    .ok_or_else(|| "expected matrices".to_owned())
            };
            vec![side(0, "transA", 0)?, side(1, "transB", 1)?]
        }
        _ => matmul(&node.input(0)?.dims, &node.input(1)?.dims)?,
    };
    Ok(Info::new(dims, Kind::Float))
}

fn matmul(left: &[Dim], right: &[Dim]) -> Result<Vec<Dim>, String> {
    let (wide_left, wide_right) = (left.len() == 1, right.len() == 1);
    let left = if wide_left {
        [&[Dim::Known(1)], left].concat()
    } else {
        left.to_vec()
    };
    let right = if wide_right {
        [right, &[Dim::Known(1)]].concat()
    } else {
        right.to_vec()
    };
    let ([outer @ .., rows, inner], [others @ .., other, columns]) = (&left[..], &right[..]) else {
        return Err("expected matrices".to_owned());
    };
    if inner != other {
        return Err(format!("inner sizes {inner:?} and {other:?}"));
    }
    within_images(&[*inner])?;
    let mut dims = broadcast(outer, others)?;
    if !wide_left {
        dims.push(*rows);
    }
    if !wide_right {
        dims.push(*columns);
    }
    Ok(dims)
}

fn einsum(node: &Node<'_>) -> Result<Vec<Dim>, String> {
    let equation: String = node
        .text("equation", "")?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    if equation.contains('.') {
        return Err(format!("equation `{equation}`: an ellipsis"));
    }
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, Some(result.to_owned())),
        None => (&equation[..], None),
    };
    let mut sizes: HashMap<char, Dim> = HashMap::new();
    let mut counts: Vec<(char, usize)> = Vec::new();
    for (index, term) in terms.split(',').enumerate() {
        let dims = &node.input(index)?.dims;
        if dims.len() != term.chars().count() {
            return Err(format!("equation `{equation}` and {} axes", dims.len()));
        }
        for (letter, &dim) in term.chars().zip(dims) {
            let known = sizes.entry(letter).or_insert(dim);
            if *known == Dim::Known(1) {
                *known = dim;
            }
            match counts.iter_mut().find(|(other, _)| *other == letter) {
                Some((_, count)) => *count += 1,
                None => counts.push((letter, 1)),
            }
        }
    }
    // Without an explicit result, its letters are those that occur once, in alphabetical order.
    let result = result.unwrap_or_else(|| {
        let mut once: Vec<char> = counts
            .iter()
            .filter(|(_, count)| *count == 1)
            .map(|&(letter, _)| letter)
            .collect();
        once.sort_unstable();
        once.into_iter().collect()
    });
    for (letter, dim) in &sizes {
        if !result.contains(*letter) {
            within_images(&[*dim])?;
        }
    }
    result
        .chars()
        .map(|letter| {
            sizes
                .get(&letter)
                .copied()
                .ok_or_else(|| format!("equation `{equation}`"))
        })
        .collect()
}
