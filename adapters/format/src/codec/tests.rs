//! Properties of the integer codes.
