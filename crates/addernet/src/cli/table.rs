//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

/// Lays out rows in columns without lines between them: the first `left` columns are aligned to the
/// left, numbers behind them to the right.
pub(crate) fn table(
    headings: impl IntoIterator<Item = &'static str>,
    rows: impl IntoIterator<Item = Vec<String>>,
    left: usize,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(headings)
        .add_rows(rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { 1 }, 1));
        if i >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
