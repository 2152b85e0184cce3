//! Limits on the contents of a file, checked before memory is reserved.

/// Maximum sizes of an adapter's contents. A device with little memory uses lower limits; [`crate::encode`] checks the
/// defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the complete file.
    pub file_bytes: usize,
    /// Bytes of the header.
    pub header_bytes: usize,
    /// UTF-8 bytes of the task's name.
    pub task_bytes: usize,
    /// UTF-8 bytes of one label.
    pub label_bytes: usize,
    /// Classes of the head.
    pub classes: usize,
    /// Input features of the head.
    pub features: usize,
    /// Reprogrammed sites.
    pub sites: usize,
    /// UTF-8 bytes of one site's name.
    pub site_name_bytes: usize,
    /// Channels of one site.
    pub channels: usize,
    /// Weights and biases of all sites and the head together, 4 bytes each in memory.
    pub parameters: usize,
    /// Canaries.
    pub canaries: usize,
    /// Width and height of one canary in pixels.
    pub canary_side: usize,
    /// Width and height of the network's input in pixels.
    pub input_side: usize,
    /// Dimensions of the feature profile.
    pub profile_dimensions: usize,
}

impl Limits {
    /// The defaults: sufficient for every recipe on ResNet-50 with a 1,000-class head, at most 64 MiB in memory.
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
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
