//! Constant folding: dense arrays whose values are known at import, read through strides and combined element by
//! element.
//!
//! The size of folded values is bounded by the size of the file, so a small file cannot use much memory or time.

use super::{
    Import,
    value::{Converted, Dim, Refusal, Value, unsupported},
};
use crate::Tensor;

/// Maximum number of elements of an integer constant. These are shapes, axes and pads.
pub(super) const MAX_INTEGERS: usize = 1 << 16;
/// Minimum budget of folding, in elements.
const BASE_BUDGET: usize = 1 << 22;
/// Folding budget per element of the constants. Standardised weights take a dozen steps with three arrays each.
const PER_ELEMENT: usize = 32;
/// Maximum number of axes of a constant.
pub(super) const MAX_RANK: usize = 16;

/// Number of elements that constant folding has created, and its budget.
#[derive(Default)]
pub(super) struct Budget {
    read: usize,
    made: usize,
}

impl Budget {
    /// Adds the elements of a constant in the file to the budget.
    pub(super) fn read(&mut self, elements: usize) {
        self.read = self.read.saturating_add(elements);
    }

    /// Counts elements about to be made.
    pub(super) fn make(&mut self, elements: usize) -> Result<(), Refusal> {
        self.made = self.made.saturating_add(elements);
        let limit = self.read.saturating_mul(PER_ELEMENT).saturating_add(BASE_BUDGET);
        if self.made <= limit {
            return Ok(());
        }
        Err(Refusal::Invalid(format!(
            "its constants make more values than the file accounts for: at most {limit}, got {}",
            self.made
        )))
    }
}

/// Returns the row-major strides of `dims`.
pub(super) fn strides(dims: &[usize]) -> Vec<isize> {
    let mut stride = 1_isize;
    let mut strides: Vec<isize> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let own = stride;
            stride = stride.saturating_mul(dim as isize);
            own
        })
        .collect();
    strides.reverse();
    strides
}

/// Returns the shape to which two shapes broadcast.
pub(super) fn broadcast(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let at = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    (0..rank)
        .map(|axis| match (at(left, axis), at(right, axis)) {
            (left, right) if left == right || right == 1 => Some(left),
            (1, right) => Some(right),
            _ => None,
        })
        .collect()
}

/// Returns the strides with which an array of `dims` is read as `target`, to which it broadcasts.
pub(super) fn broadcast_strides(dims: &[usize], target: &[usize]) -> Vec<isize> {
    let own = strides(dims);
    let mut wide = vec![0; target.len() - dims.len()];
    wide.extend(
        own.iter()
            .zip(dims)
            .map(|(&stride, &dim)| if dim == 1 { 0 } else { stride }),
    );
    wide
}

/// Returns the elements of an array of `dims` that start at `base` and are `strides` apart. All of them must be inside
/// `values`.
fn taken<T: Copy>(values: &[T], dims: &[usize], base: usize, strides: &[isize]) -> Vec<T> {
    let count = dims.iter().product();
    let (mut place, mut index, mut out) = (base as isize, vec![0; dims.len()], Vec::with_capacity(count));
    while out.len() < count {
        out.push(values[place as usize]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            place -= strides[axis] * dims[axis] as isize;
            index[axis] = 0;
        }
    }
    out
}

/// Returns the number of elements of `dims`, if the rank is valid and the product does not overflow.
pub(super) fn elements(dims: &[usize]) -> Option<usize> {
    let count = dims
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
    (dims.len() <= MAX_RANK).then_some(count)
}

impl Import<'_> {
    /// Returns the elements of a constant that start at `base` and are `strides` apart, as an array of `dims`.
    pub(super) fn taken(&mut self, constant: &Value, dims: Vec<usize>, base: usize, strides: &[isize]) -> Converted {
        let Some(count) = elements(&dims) else {
            return unsupported(format!("makes a constant of {dims:?}"));
        };
        match constant {
            Value::Tensor(tensor) => {
                self.budget.make(count)?;
                let values = taken(tensor.data(), &dims, base, strides);
                Ok(Value::Tensor(Tensor::new(dims, values)))
            }
            Value::Integers { values, .. } if count <= MAX_INTEGERS => {
                let values = taken(values, &dims, base, strides);
                Ok(Value::Integers { dims, values })
            }
            other => unsupported(format!("of {} to {dims:?}", other.describe())),
        }
    }

    /// Combines two constants of floats with `operation`.
    pub(super) fn folded(
        &mut self,
        left: &Tensor,
        right: &Tensor,
        operation: impl Fn(f32, f32) -> f32,
    ) -> Result<Tensor, Refusal> {
        let dims = broadcast(left.shape(), right.shape());
        let Some((dims, count)) = dims.and_then(|dims| elements(&dims).map(|count| (dims, count))) else {
            return unsupported(format!("of constants {:?} and {:?}", left.shape(), right.shape()));
        };
        self.budget.make(count.saturating_mul(3))?;
        let side = |tensor: &Tensor| taken(tensor.data(), &dims, 0, &broadcast_strides(tensor.shape(), &dims));
        let values: Vec<f32> = side(left)
            .into_iter()
            .zip(side(right))
            .map(|(left, right)| operation(left, right))
            .collect();
        Ok(Tensor::new(dims, values))
    }

    /// Applies `operation` to every element of a float constant.
    pub(super) fn mapped(&mut self, tensor: &Tensor, operation: impl Fn(f32) -> f32) -> Converted {
        self.budget.make(tensor.data().len())?;
        let values: Vec<f32> = tensor.data().iter().map(|&value| operation(value)).collect();
        Ok(Value::Tensor(Tensor::new(tensor.shape(), values)))
    }
}

/// An array of integers of a file.
pub(super) type Integers<'a> = (&'a [usize], &'a [Dim]);

/// Applies `operation` to integers, for the shape arithmetic of exporters. If it returns `None`, the batch size would
/// have to be known.
pub(super) fn integers(
    (left, lefts): Integers<'_>,
    (right, rights): Integers<'_>,
    operation: impl Fn(Dim, Dim) -> Option<Dim>,
) -> Converted {
    let dims = broadcast(left, right).filter(|dims| elements(dims).is_some_and(|count| count <= MAX_INTEGERS));
    let Some(dims) = dims else {
        return unsupported(format!("of integers {left:?} and {right:?}"));
    };
    let (lefts, rights) = (
        taken(lefts, &dims, 0, &broadcast_strides(left, &dims)),
        taken(rights, &dims, 0, &broadcast_strides(right, &dims)),
    );
    let values = lefts
        .into_iter()
        .zip(rights)
        .map(|(left, right)| operation(left, right));
    match values.collect::<Option<Vec<_>>>() {
        Some(values) => Ok(Value::Integers { dims, values }),
        None => unsupported("of integers that depend on the batch, or out of range"),
    }
}
