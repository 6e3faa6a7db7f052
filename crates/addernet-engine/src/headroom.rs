//! The proof that nothing overflows, as figures.

/// What a layer's accumulators can reach in the worst case that its weights allow, against what they
/// can hold.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerHeadroom {
    /// The layer's node.
    pub node: String,
    /// Terms of one sum.
    pub taps: usize,
    /// The largest magnitude of a sum over all input codes, for the layer's own weights.
    pub sum: i64,
    /// Bits of the accumulator.
    pub sum_bits: u32,
    /// The largest magnitude of a sum times its multiplier plus its offset.
    pub product: i64,
    /// Bits of the product.
    pub product_bits: u32,
}

impl LayerHeadroom {
    /// Bits of the accumulator that no sum reaches.
    pub fn sum_headroom(&self) -> u32 {
        headroom(self.sum, self.sum_bits)
    }

    /// Bits of the product that no sum reaches.
    pub fn product_headroom(&self) -> u32 {
        headroom(self.product, self.product_bits)
    }
}

/// Bits that are left of a signed integer of so many bits.
fn headroom(worst: i64, bits: u32) -> u32 {
    let used = 64 - worst.unsigned_abs().leading_zeros();
    (bits - 1).saturating_sub(used)
}
