//! Lines of a command's result on stdout.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes a line to stdout. A closed pipe is not an error, as in `clr-device status | head -1`.
pub(crate) fn print_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_fmt(format_args!("{line}\n")).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
