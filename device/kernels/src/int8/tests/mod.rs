//! Every int8 kernel compared with its definition in plain loops and i64 sums, bit for bit, for all instructions of this
//! machine.

mod conv;
mod others;
mod reference;

use reference::{Bytes, Values};
