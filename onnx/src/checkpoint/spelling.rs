//! Naming schemes of an architecture's tensors.

/// Naming scheme of a checkpoint's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spelling {
    /// The names of the library that the architecture comes from: torchvision, or the EfficientNet-Lite port.
    Original,
    /// timm's names, where they differ.
    Timm,
    /// Names of Hugging Face's Transformers.
    Transformers,
    /// Positions in `nn.Sequential(*model.children())`, or in torchvision's `features`.
    Children,
    /// `MobileNetV2` of torchvision before 0.4 and of others, where all layers of a block are numbered in one sequence.
    Flat,
}
