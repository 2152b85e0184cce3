//! Half-precision parts of a file that were widened to f32, for a note.

use super::constant;

/// Contents of a file in half precision.
#[derive(Default)]
pub(super) struct Seen {
    tensors: usize,
    casts: usize,
}

impl Seen {
    /// Counts a tensor of this element type.
    pub(super) fn tensor(&mut self, kind: i32) {
        self.tensors += usize::from(constant::is_half(kind));
    }

    /// Counts a Cast of a computed value to this element type.
    pub(super) fn cast(&mut self, kind: i32) {
        self.casts += usize::from(constant::is_half(kind));
    }

    /// Returns the note, if there is one.
    pub(super) fn note(&self) -> Option<String> {
        let tensors = match self.tensors {
            0 if self.casts == 0 => return None,
            0 => "the file computes in half precision".to_owned(),
            1 => "1 tensor in half precision was widened to float".to_owned(),
            count => format!("{count} tensors in half precision were widened to float"),
        };
        Some(format!(
            "{tensors}: the backbone computes in float, its answers differ from the file's by its rounding"
        ))
    }
}
