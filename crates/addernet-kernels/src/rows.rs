//! Output rows counted through a whole batch.

/// Consecutive output rows of one image.
pub(crate) struct Piece {
    pub(crate) image: usize,
    pub(crate) rows: std::ops::Range<usize>,
}

/// Splits rows counted through the batch into pieces that belong to one image each.
pub(crate) fn pieces(rows: std::ops::Range<usize>, height: usize) -> impl Iterator<Item = Piece> {
    let mut next = rows.start;
    std::iter::from_fn(move || {
        (next < rows.end).then(|| {
            let (image, first) = (next / height, next % height);
            let last = height.min(first + rows.end - next);
            next += last - first;
            Piece {
                image,
                rows: first..last,
            }
        })
    })
}
