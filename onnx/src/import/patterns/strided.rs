//! A tensor read in memory order (`as_strided` of PyTorch's exporter): flattened, then gathered element by element.

use super::super::{Import, attributes::Source, value::Value};

impl<'a> Import<'a> {
    /// Recognises `Gather(Reshape(x, [-1]), [[0, 1, 2, …]])`, which only reshapes `x`. If the batch is not fixed to
    /// one, it is not a function of a single image.
    pub(super) fn strided(&mut self, source: Source<'a>) -> Option<Value> {
        let [flat, places] = &source.proto.input[..] else {
            return None;
        };
        let axis = source.int("axis", 0).ok()?;
        let inputs = self.inputs_of(flat, "Reshape")?;
        let [x, target] = inputs[..] else { return None };
        let view = self.layout(x)?;
        let whole = self.list(target)? == [-1];
        let count: usize = view.dims().iter().product();
        let places = self.list(places)?;
        let identity = places.len() == count && places.iter().copied().eq(0..count as i64);
        let dims = match self.values.get(source.proto.input[1].as_str())? {
            Value::Integers { dims, .. } => dims.clone(),
            _ => return None,
        };
        let (&1, dims) = dims.split_first()? else { return None };
        if self.batch != Some(1) || axis != 0 || !whole || !identity {
            return None;
        }
        self.resized(source, &view, dims).ok()?
    }
}
