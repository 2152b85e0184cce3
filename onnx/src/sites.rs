//! The CLR sites of a backbone: every convolution, with the norm and activation behind it.

/// A convolution that an adapter may reprogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteInfo {
    /// The convolution's name.
    pub name: String,
    /// Index of the convolution among the graph's nodes.
    pub conv: usize,
    /// Output channels.
    pub channels: usize,
    /// Kernel rows, columns.
    pub kernel: [usize; 2],
    /// Index of the BatchNorm that alone reads the convolution, if any.
    pub norm: Option<usize>,
    /// Index of the activation that alone reads the norm (or the convolution where there is no norm), if any.
    pub activation: Option<usize>,
}
