//! Grouping: kernels with similar ranges share a scale (Nie et al. 2022, section 3.1).

use crate::error::QuantError;

/// Most groups that a layer can have: indices are stored in a byte.
pub const MAX_GROUPS: usize = 255;

/// Splits kernels into at most `groups` groups of similar `ranges` (each kernel's max|w|) and
/// returns each kernel's group, groups being numbered by rising range.
///
/// k-means in one dimension has an exact solution (Wang & Song 2011), so that the result depends on
/// no random start. Fewer distinct ranges than groups give as many groups as ranges.
///
/// # Errors
/// If there are more groups than kernels, or none.
pub fn group_kernels(node: &str, ranges: &[f32], groups: usize) -> Result<Vec<usize>, QuantError> {
    if groups == 0 || groups > MAX_GROUPS {
        let reason = format!("must be 1 to {MAX_GROUPS}, got {groups}");
        return Err(QuantError::config("groups", reason));
    }
    if groups > ranges.len() {
        let reason = format!(
            "{groups} groups, but it has only {} kernels: ask for at most that many groups",
            ranges.len()
        );
        return Err(QuantError::layer(node, reason));
    }
    let mut distinct = ranges.to_vec();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    if distinct.len() <= groups {
        return Ok(assign(ranges, &distinct));
    }
    let values: Vec<f64> = ranges.iter().map(|&r| f64::from(r)).collect();
    // Each cluster is sorted and they come in rising order: the last value bounds the cluster.
    let bounds: Vec<f32> = ckmeans::ckmeans(&values, groups as u8)
        .map_err(|e| QuantError::layer(node, format!("its kernels cannot be grouped: {e}")))?
        .iter()
        .filter_map(|cluster| cluster.last().map(|&v| v as f32))
        .collect();
    Ok(assign(ranges, &bounds))
}

/// Index of the first bound that is not below each range.
fn assign(ranges: &[f32], bounds: &[f32]) -> Vec<usize> {
    ranges
        .iter()
        .map(|&r| bounds.partition_point(|&bound| bound < r))
        .collect()
}

#[cfg(test)]
mod tests;
