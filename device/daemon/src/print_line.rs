//! What commands print.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes a line to stdout. Its reader may have read enough (`clr-device status | head -1`): that is no error.
pub(crate) fn print_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_fmt(format_args!("{line}\n")).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
