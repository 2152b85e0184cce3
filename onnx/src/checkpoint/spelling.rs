//! Naming schemes of an architecture's tensors.

/// Whose names a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spelling {
    /// Those of the library that the architecture comes from: torchvision's, or those of EfficientNet-Lite's port.
    Original,
    /// timm's, where they differ.
    Timm,
    /// Those of Hugging Face's Transformers.
    Transformers,
    /// Positions in `nn.Sequential(*model.children())`, or in torchvision's `features`.
    Children,
    /// `MobileNetV2` of torchvision before 0.4 and of others: the layers of a block have one row of numbers.
    Flat,
}
