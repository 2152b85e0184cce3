//! Operations along the channels of a vector `[N, C]` or `[N, C, 1, 1]`, as ONNX nodes.

use super::builder::{Builder, int, ints};
use crate::{Shape, Tensor};

impl Builder {
    #[expect(clippy::too_many_arguments, reason = "the fields of the operation and its place")]
    pub(super) fn channel_conv(
        &mut self,
        name: &str,
        kernel: &Tensor,
        bias: f32,
        pads: [usize; 2],
        shape: Shape,
        input: &str,
        output: &str,
    ) {
        let length = kernel.data().len();
        let kernel = self.constant(&format!("{name}.kernel"), &[1, 1, length], kernel.data());
        let bias = self.constant(&format!("{name}.bias"), &[1], &[bias]);
        let attributes = vec![ints("kernel_shape", &[length]), ints("pads", &pads)];
        let map = shape.spatial().is_some();
        let (axes, back) = if map { ([3], [3]) } else { ([1], [1]) };
        let axes = self.integers(&format!("{name}.axes"), &axes);
        let row = if map {
            let column = self.helper_node(name, "column", "Squeeze", &[input, &axes], vec![]);
            self.helper_node(name, "row", "Transpose", &[&column], vec![ints("perm", &[0, 2, 1])])
        } else {
            self.helper_node(name, "row", "Unsqueeze", &[input, &axes], vec![])
        };
        let convolved = self.value(&format!("{name}.convolved"));
        self.node(name, "Conv", &[&row, &kernel, &bias], &convolved, attributes);
        let back = self.integers(&format!("{name}.back"), &back);
        if map {
            let column = self.helper_node(
                name,
                "result",
                "Transpose",
                &[&convolved],
                vec![ints("perm", &[0, 2, 1])],
            );
            let unsqueeze = self.helper(&format!("{name}.map"));
            self.node(&unsqueeze, "Unsqueeze", &[&column, &back], output, vec![]);
        } else {
            let squeeze = self.helper(&format!("{name}.vector"));
            self.node(&squeeze, "Squeeze", &[&convolved, &back], output, vec![]);
        }
    }

    pub(super) fn softmax(&mut self, name: &str, groups: usize, shape: Shape, input: &str, output: &str) {
        let grouped = self.integers(&format!("{name}.grouped"), &[0, groups as i64, -1]);
        let whole = [0].into_iter().chain(shape.dims().iter().map(|&dim| dim as i64));
        let whole = self.integers(&format!("{name}.whole"), &whole.collect::<Vec<_>>());
        let grouped = self.helper_node(name, "groups", "Reshape", &[input, &grouped], vec![]);
        let shares = self.value(&format!("{name}.shares"));
        self.node(name, "Softmax", &[&grouped], &shares, vec![int("axis", 1)]);
        let reshape = self.helper(&format!("{name}.reshape"));
        self.node(&reshape, "Reshape", &[&shares, &whole], output, vec![]);
    }
}
