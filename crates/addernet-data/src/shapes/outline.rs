//! The shapes, as tests of whether a point is inside. All of them fit into the unit circle.

/// Directions of the five sides of a star: multiples of 72°, as (cosine, sine).
const FIFTHS: [(f32, f32); 5] = [
    (1.0, 0.0),
    (0.309_017, 0.951_056_5),
    (-0.809_017, 0.587_785_3),
    (-0.809_017, -0.587_785_3),
    (0.309_017, -0.951_056_5),
];

/// Whether (x, y) lies inside the shape with this label.
pub(super) fn contains(label: u32, x: f32, y: f32) -> bool {
    let radius2 = x * x + y * y;
    match label {
        // Circle.
        0 => radius2 <= 0.72,
        // Ring.
        1 => (0.28..=0.9).contains(&radius2),
        // Triangle: three sides at half the radius of the corners.
        2 => x >= -0.5 && 0.5 * x + 0.866_025_4 * y <= 0.5 && 0.5 * x - 0.866_025_4 * y <= 0.5,
        // Square.
        3 => x.abs() <= 0.7 && y.abs() <= 0.7,
        // Bar.
        4 => x.abs() <= 0.95 && y.abs() <= 0.28,
        // Star: the five lines through its sides; a point of the star is beyond at most one of them.
        5 => {
            FIFTHS
                .iter()
                .filter(|(c, s)| c * x + s * y > 0.309_017)
                .count()
                <= 1
                && radius2 <= 1.0
        }
        // Cross.
        6 => (x.abs() <= 0.26 && y.abs() <= 0.95) || (y.abs() <= 0.26 && x.abs() <= 0.95),
        // Crescent: a disc without another, shifted one.
        7 => radius2 <= 0.9 && (x - 0.45) * (x - 0.45) + y * y > 0.49,
        // Semicircle, moved so that its middle is in the centre.
        8 => y >= -0.4 && x * x + (y + 0.4) * (y + 0.4) <= 0.81,
        // Arrow: a shaft and a head.
        _ => {
            (y.abs() <= 0.18 && (-0.95..=0.1).contains(&x))
                || ((0.0..=0.95).contains(&x) && y.abs() <= (0.95 - x) * 0.7)
        }
    }
}
