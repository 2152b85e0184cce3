//! Limits of a graph, and the name that it may not use.

/// The most nodes of a graph.
pub(crate) const MAX_NODES: usize = 20_000;
/// The largest kernel side, stride, dilation or padding.
pub(crate) const MAX_WINDOW: usize = 4096;
/// The most rows or columns of the input image.
pub(crate) const MAX_PIXELS: u32 = 16_384;
/// The name that belongs to the adapter's head, so no node may have it.
pub(crate) const RESERVED_NAME: &str = "head";
/// The most channels, features or groups.
pub(crate) const MAX_CHANNELS: usize = 1 << 20;
