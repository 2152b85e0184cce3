//! Shapes of values, NCHW with a symbolic batch.

/// A value's shape without its batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A feature map `[C, H, W]`.
    Map([usize; 3]),
    /// A vector `[F]`.
    Vector(usize),
}

impl Shape {
    /// Returns the number of channels of a map, or the length of a vector.
    pub fn channels(self) -> usize {
        match self {
            Self::Map([channels, ..]) | Self::Vector(channels) => channels,
        }
    }

    /// Returns rows and columns of a map; `None` for a vector.
    pub fn spatial(self) -> Option<[usize; 2]> {
        match self {
            Self::Map([_, height, width]) => Some([height, width]),
            Self::Vector(_) => None,
        }
    }

    /// Returns the dimensions after the batch.
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Map(dims) => dims,
            Self::Vector(length) => std::slice::from_ref(length),
        }
    }

    /// Returns the number of values per image.
    pub fn elements(self) -> usize {
        self.dims().iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[N")?;
        self.dims().iter().try_for_each(|dim| write!(f, ", {dim}"))?;
        f.write_str("]")
    }
}
