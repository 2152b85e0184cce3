//! Sections of the payload: kinds, encodings and order.

/// Kind of a section. The order here is the order in the file; a section without values is omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum SectionKind {
    /// The 3×3 kernels of all sites that have them, `[C, 3, 3]` each.
    Kernels = 1,
    /// The scales of all other sites, `[C]` each.
    Scales = 2,
    /// The biases of all sites, `[C]` each.
    Biases = 3,
    /// The head's weight, `[classes, features]`.
    HeadWeight = 4,
    /// The head's bias, `[classes]`.
    HeadBias = 5,
    /// The feature profile's mean, `[D]`.
    ProfileMean = 6,
    /// The diagonal of the feature profile's factor, `[D]`.
    ProfileDiagonal = 7,
    /// The rest of the feature profile's factor, `[D (D − 1) / 2]`.
    ProfileFactor = 8,
    /// The mean of the class means, `[F]` (format version 3).
    ClassMean = 9,
    /// The class means minus their mean, `[classes, F]` (format version 3).
    ClassDeviations = 10,
    /// The directions of the spread within classes, `[R, F]` (format version 3).
    ClassDirections = 11,
    /// The feature profile's means of taught classes, `[n, D]` (format version 3).
    ProfileTaught = 12,
}

impl SectionKind {
    /// All kinds in file order.
    pub const ALL: [Self; 12] = [
        Self::Kernels,
        Self::Scales,
        Self::Biases,
        Self::HeadWeight,
        Self::HeadBias,
        Self::ProfileMean,
        Self::ProfileDiagonal,
        Self::ProfileFactor,
        Self::ClassMean,
        Self::ClassDeviations,
        Self::ClassDirections,
        Self::ProfileTaught,
    ];

    /// Returns the name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Scales => "scales",
            Self::Biases => "biases",
            Self::HeadWeight => "head weight",
            Self::HeadBias => "head bias",
            Self::ProfileMean => "profile mean",
            Self::ProfileDiagonal => "profile diagonal",
            Self::ProfileFactor => "profile factor",
            Self::ClassMean => "class mean",
            Self::ClassDeviations => "class deviations",
            Self::ClassDirections => "class directions",
            Self::ProfileTaught => "profile taught",
        }
    }
}

impl core::fmt::Display for SectionKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Encoding of the numbers of one section; formulas in `docs/reference/adapter-format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SectionEncoding {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// 3×3 kernels: 12-bit centre, 6-bit neighbours, a 6-bit logarithmic step per channel.
    Kernel = 2,
    /// 8-bit linear codes, a 6-bit logarithmic step per 32 values.
    Linear8 = 3,
    /// 10-bit linear codes, a 6-bit logarithmic step per 16 values.
    Linear10 = 4,
    /// 10-bit square-law codes, a 6-bit logarithmic step per 16 values.
    Square10 = 5,
    /// Range-coded integer codes with one step, in format version 3 only.
    Coded = 6,
}

impl SectionEncoding {
    const ALL: [Self; 6] = [
        Self::F32,
        Self::F16,
        Self::Kernel,
        Self::Linear8,
        Self::Linear10,
        Self::Square10,
    ];

    /// Returns the name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Kernel => "int6+12",
            Self::Linear8 => "int8",
            Self::Linear10 => "int10",
            Self::Square10 => "int10-square",
            Self::Coded => "coded",
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| *encoding as u8 == code)
    }

    /// Returns whether a section of this kind may have this encoding.
    pub(crate) fn fits(self, kind: SectionKind) -> bool {
        self != Self::Kernel || kind == SectionKind::Kernels
    }
}

impl core::fmt::Display for SectionEncoding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Encoding of an adapter, which determines the encoding of every section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Encoding {
    /// Exact values. Every section is encoded as f32.
    F32,
    /// Half the size of f32. A section with a value outside f16's range (±65,504) is encoded as f32.
    F16,
    /// About 8 bits per value: see [`SectionEncoding`]. Written as format version 2, for devices with older programs.
    Int8,
    /// Values with a step as range-coded integer codes, other ones as f32: format version 3.
    #[default]
    Compact,
}

impl Encoding {
    /// All encodings, largest first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Int8, Self::Compact];

    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Compact => "compact",
        }
    }

    /// Returns the encoding with this command-line name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// Returns the encoding of sections of this kind.
    #[must_use]
    pub const fn of_section(self, kind: SectionKind) -> SectionEncoding {
        match (self, kind) {
            (Self::F32, _) | (Self::Int8 | Self::Compact, SectionKind::HeadBias) => SectionEncoding::F32,
            (Self::F16, _) => SectionEncoding::F16,
            (Self::Int8, SectionKind::Kernels) => SectionEncoding::Kernel,
            (Self::Int8, SectionKind::Scales | SectionKind::ProfileDiagonal) => SectionEncoding::Square10,
            (Self::Int8, SectionKind::Biases | SectionKind::ProfileMean) => SectionEncoding::Linear10,
            (Self::Int8, SectionKind::HeadWeight | SectionKind::ProfileFactor) => SectionEncoding::Linear8,
            // Version 2 has no class features.
            (Self::Compact | Self::Int8, _) => SectionEncoding::Coded,
        }
    }
}

impl core::fmt::Display for Encoding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// One section of a decoded file, for `clr inspect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// The section's kind.
    pub kind: SectionKind,
    /// The section's encoding.
    pub encoding: SectionEncoding,
    /// Number of values.
    pub elements: usize,
    /// Offset of the section's data in the file, in bytes.
    pub offset: usize,
    /// Number of bytes of the section's data, without the 16-byte section head.
    pub bytes: usize,
    /// CRC-32 of the section's data; `None` in format version 3, whose sections have none of their own.
    pub crc: Option<u32>,
}
