//! Evenly spaced parts of lists.

/// Returns at most `most` evenly spaced indices below `count`, in increasing order.
pub fn evenly_spaced(count: usize, most: usize) -> impl ExactSizeIterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |at| at * count / taken)
}
