//! Limits on the contents of a file, checked before memory is reserved.

/// Maximum sizes of an adapter's contents. A device with little memory uses lower limits; [`crate::encode`] checks the
/// defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum bytes of the complete file.
    pub file_bytes: usize,
    /// Maximum bytes of the header.
    pub header_bytes: usize,
    /// Maximum UTF-8 bytes of the task's name.
    pub task_bytes: usize,
    /// Maximum UTF-8 bytes of one label.
    pub label_bytes: usize,
    /// Maximum number of classes of the head.
    pub classes: usize,
    /// Maximum number of input features of the head.
    pub features: usize,
    /// Maximum number of reprogrammed sites.
    pub sites: usize,
    /// Maximum UTF-8 bytes of one site's name.
    pub site_name_bytes: usize,
    /// Maximum number of channels of one site.
    pub channels: usize,
    /// Maximum number of weights and biases of all sites and the head together. In memory, each takes 4 bytes.
    pub parameters: usize,
    /// Maximum number of canaries.
    pub canaries: usize,
    /// Maximum width and height of one canary in pixels.
    pub canary_side: usize,
    /// Maximum width and height of the network's input in pixels.
    pub input_side: usize,
    /// Maximum number of dimensions of the feature profile.
    pub profile_dimensions: usize,
    /// Maximum number of directions of the spread within classes.
    pub class_directions: usize,
    /// Maximum number of margins.
    pub margins: usize,
}

impl Limits {
    /// The default limits. They suffice for every recipe on ResNet-50 with a 1,000-class head, and allow at most 64 MiB
    /// in memory.
    pub const DEFAULT: Self = Self {
        file_bytes: 64 << 20,
        header_bytes: 1 << 20,
        task_bytes: 128,
        label_bytes: 256,
        classes: 32_768,
        features: 32_768,
        sites: 1_024,
        site_name_bytes: 256,
        channels: 32_768,
        parameters: 16 << 20,
        canaries: 16,
        canary_side: 128,
        input_side: 4_096,
        profile_dimensions: 512,
        class_directions: 64,
        margins: 256,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
