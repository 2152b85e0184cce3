//! Interpolation of a map: output size and source pixels, as defined by ONNX `Resize`.

use crate::limits::MAX_PIXELS;

/// Interpolation of a map (ONNX `Resize`, opset 10 to 19, without anti-aliasing).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize {
    /// Source of the output size.
    pub target: ResizeTarget,
    /// Interpolation between pixels.
    pub mode: ResizeMode,
    /// Position of an output pixel in the input.
    pub coordinates: Coordinates,
}

/// The output size of a [`Resize`]: rows, columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeTarget {
    /// A fixed size.
    Size([usize; 2]),
    /// `⌊input · scale⌋`.
    Scale([f32; 2]),
}

/// The interpolation of a [`Resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeMode {
    /// The pixel at the rounded coordinate.
    Nearest(Rounding),
    /// The four pixels around the coordinate, weighted by distance (ONNX `linear`).
    Bilinear,
}

/// The rounding of [`ResizeMode::Nearest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Rounds to the nearest integer, and halves down.
    PreferFloor,
    /// Rounds to the nearest integer, and halves up.
    PreferCeil,
    /// Rounds down.
    Floor,
    /// Rounds up.
    Ceil,
}

/// The input coordinate of an output pixel (ONNX `coordinate_transformation_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// `(x + ½) / scale − ½`.
    HalfPixel,
    /// Like half pixel, but relative to the centre of the map if the output size was rounded (opset 19).
    HalfPixelSymmetric,
    /// Like half pixel, but 0 if the output has a single pixel.
    PytorchHalfPixel,
    /// `x · (input − 1) / (output − 1)`, or 0 if the output has a single pixel.
    AlignCorners,
    /// `x / scale`.
    Asymmetric,
}

/// Sources of one output row or column. Its value is `(1 − weight) · input[low] + weight · input[high]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taps {
    /// The lower neighbour.
    pub low: usize,
    /// The higher neighbour; equal to `low` for [`ResizeMode::Nearest`].
    pub high: usize,
    /// Weight of `high`, 0 to 1.
    pub weight: f32,
}

impl Resize {
    /// Returns rows and columns of the output for a map of `input` (rows, columns).
    pub fn output(&self, input: [usize; 2]) -> [usize; 2] {
        match self.target {
            ResizeTarget::Size(size) => size,
            ResizeTarget::Scale(scale) => [0, 1].map(|axis| (input[axis] as f32 * scale[axis]).floor() as usize),
        }
    }

    /// Returns the sources of every output row (`axis` 0) or column (`axis` 1), for `input` rows or columns.
    pub fn taps(&self, axis: usize, input: usize) -> Vec<Taps> {
        let (output, scale) = match self.target {
            ResizeTarget::Size(size) => (size[axis], size[axis] as f32 / input as f32),
            ResizeTarget::Scale(scale) => ((input as f32 * scale[axis]).floor() as usize, scale[axis]),
        };
        let last = input.saturating_sub(1);
        let tap = |place: usize| {
            let at = self.coordinates.source(place, input, output, scale);
            match self.mode {
                ResizeMode::Nearest(rounding) => {
                    let low = (rounding.round(at).max(0.0) as usize).min(last);
                    Taps {
                        low,
                        high: low,
                        weight: 0.0,
                    }
                }
                ResizeMode::Bilinear => {
                    let at = at.clamp(0.0, last as f32);
                    let low = (at.floor() as usize).min(last);
                    Taps {
                        low,
                        high: (low + 1).min(last),
                        weight: at - low as f32,
                    }
                }
            }
        };
        (0..output).map(tap).collect()
    }

    /// Checks the parameters. The error states the reason.
    pub(crate) fn check(&self) -> Result<(), String> {
        let most = MAX_PIXELS as usize;
        match self.target {
            ResizeTarget::Size(size) if size.iter().any(|side| !(1..=most).contains(side)) => {
                Err(format!("expected 1 to {most} rows and columns, got {size:?}"))
            }
            ResizeTarget::Scale(scale) if !scale.iter().all(|&scale| scale > 0.0 && scale <= most as f32) => {
                Err(format!("expected a scale above 0 and up to {most}, got {scale:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl Coordinates {
    /// Returns the source coordinate in single precision, as ONNX Runtime does: exact halves are common, and rounding
    /// decides between two pixels.
    fn source(self, place: usize, input: usize, output: usize, scale: f32) -> f32 {
        let place = place as f32;
        let half_pixel = (place + 0.5) / scale - 0.5;
        match self {
            Self::HalfPixelSymmetric => {
                let adjustment = output as f32 / (scale * input as f32);
                let centre = input as f32 / 2.0;
                centre * (1.0 - adjustment) + half_pixel
            }
            Self::PytorchHalfPixel | Self::AlignCorners if output <= 1 => 0.0,
            Self::HalfPixel | Self::PytorchHalfPixel => half_pixel,
            Self::AlignCorners => place * (input as f32 - 1.0) / (output as f32 - 1.0),
            Self::Asymmetric => place / scale,
        }
    }
}

impl Rounding {
    fn round(self, at: f32) -> f32 {
        match self {
            Self::PreferFloor => (at - 0.5).ceil(),
            Self::PreferCeil => (at + 0.5).floor(),
            Self::Floor => at.floor(),
            Self::Ceil => at.ceil(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Coordinates, Resize, ResizeMode, ResizeTarget, Rounding};

    fn low(resize: Resize, input: usize) -> Vec<usize> {
        resize.taps(0, input).iter().map(|taps| taps.low).collect()
    }

    #[test]
    fn nearest_rounds_halves_by_its_mode() {
        let of = |coordinates, rounding| {
            let resize = Resize {
                target: ResizeTarget::Scale([2.0; 2]),
                mode: ResizeMode::Nearest(rounding),
                coordinates,
            };
            low(resize, 3)
        };
        assert_eq!(of(Coordinates::Asymmetric, Rounding::Floor), [0, 0, 1, 1, 2, 2]);
        assert_eq!(of(Coordinates::Asymmetric, Rounding::Ceil), [0, 1, 1, 2, 2, 2]);
        assert_eq!(of(Coordinates::Asymmetric, Rounding::PreferFloor), [0, 0, 1, 1, 2, 2]);
        assert_eq!(of(Coordinates::Asymmetric, Rounding::PreferCeil), [0, 1, 1, 2, 2, 2]);
        assert_eq!(of(Coordinates::HalfPixel, Rounding::PreferFloor), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn bilinear_stays_inside_the_map() {
        for coordinates in [
            Coordinates::HalfPixel,
            Coordinates::HalfPixelSymmetric,
            Coordinates::PytorchHalfPixel,
            Coordinates::AlignCorners,
            Coordinates::Asymmetric,
        ] {
            for (input, output) in [(1, 5), (5, 1), (4, 7), (7, 4)] {
                let resize = Resize {
                    target: ResizeTarget::Size([output; 2]),
                    mode: ResizeMode::Bilinear,
                    coordinates,
                };
                let taps = resize.taps(1, input);
                assert_eq!(taps.len(), output);
                assert!(
                    taps.iter()
                        .all(|taps| taps.high < input && (0.0..=1.0).contains(&taps.weight))
                );
            }
        }
        let corners = Resize {
            target: ResizeTarget::Size([5, 5]),
            mode: ResizeMode::Bilinear,
            coordinates: Coordinates::AlignCorners,
        };
        let last = corners.taps(0, 3)[4];
        assert_eq!((last.low, last.weight), (2, 0.0));
    }
}
