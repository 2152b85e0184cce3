//! Limits of a graph, and its reserved name.

/// Maximum number of nodes of a graph.
pub(crate) const MAX_NODES: usize = 20_000;
/// Maximum side of a kernel, stride, dilation or padding.
pub(crate) const MAX_WINDOW: usize = 4096;
/// Maximum number of rows or columns of the input image.
pub(crate) const MAX_PIXELS: u32 = 16_384;
/// Name reserved for the adapter's head, which no node may have.
pub(crate) const RESERVED_NAME: &str = "head";
/// Maximum number of channels, features or groups.
pub(crate) const MAX_CHANNELS: usize = 1 << 20;
