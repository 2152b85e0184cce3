//! What the daemon promises, shown on the real program: a process, its socket, its store on a real disk.

mod choosing;
mod device;
mod hostile;
mod killed;
mod learning;
mod serving;
mod trial;
