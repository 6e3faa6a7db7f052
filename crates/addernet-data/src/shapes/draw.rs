//! Drawing one image.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SIDE;
use super::outline::contains;

/// Sub-pixels per pixel and axis, for smooth outlines.
const SUB: usize = 3;

type Colour = [f32; 3];

/// A surface: a colour, modulated by a pattern.
struct Surface {
    colour: Colour,
    pattern: u32,
    /// Unit vector across the pattern.
    across: (f32, f32),
    /// Pixels per period.
    period: f32,
    phase: f32,
    /// Largest deviation from the colour, in levels of 255.
    contrast: f32,
}

impl Surface {
    fn random(rng: &mut ChaCha8Rng, colour: Colour) -> Self {
        Self {
            colour,
            pattern: rng.random_range(0..4),
            across: direction(rng),
            period: between(rng, 3.0, 9.0),
            phase: rng.random(),
            contrast: between(rng, 15.0, 40.0),
        }
    }

    fn at(&self, x: f32, y: f32) -> Colour {
        let (c, s) = self.across;
        let u = (c * x + s * y) / self.period + self.phase;
        let v = (c * y - s * x) / self.period + self.phase;
        let half = |t: f32| if t - t.floor() < 0.5 { -1.0 } else { 1.0 };
        let level = match self.pattern {
            // Plain.
            0 => 0.0,
            // Stripes.
            1 => half(u),
            // Checks.
            2 => half(u) * half(v),
            // A gradient that repeats every four periods.
            _ => 4.0 * (u / 4.0 - (u / 4.0).floor() - 0.5).abs() - 1.0,
        };
        self.colour.map(|channel| channel + level * self.contrast)
    }
}

/// A shape with the given label somewhere in the image, in HWC order.
pub(super) fn draw(rng: &mut ChaCha8Rng, label: u32) -> Vec<u8> {
    let (ground, figure) = colours(rng);
    let ground = Surface::random(rng, ground);
    let figure = Surface::random(rng, figure);
    let (cos, sin) = direction(rng);
    let radius = between(rng, 8.5, 14.0);
    let half = SIDE as f32 / 2.0;
    let (centre_x, centre_y) = (
        half + between(rng, -3.5, 3.5),
        half + between(rng, -3.5, 3.5),
    );
    let noise = between(rng, 10.0, 45.0);

    let mut image = Vec::with_capacity(SIDE * SIDE * 3);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut inside = 0u8;
            for sub in 0..SUB * SUB {
                let step = |at: usize, sub: usize| at as f32 + (sub as f32 + 0.5) / SUB as f32;
                let x = (step(column, sub % SUB) - centre_x) / radius;
                let y = (step(row, sub / SUB) - centre_y) / radius;
                inside += u8::from(contains(label, cos * x + sin * y, cos * y - sin * x));
            }
            let cover = f32::from(inside) / (SUB * SUB) as f32;
            let (x, y) = (column as f32, row as f32);
            let pixel = ground.at(x, y).into_iter().zip(figure.at(x, y));
            for (below, above) in pixel {
                let value = below + cover * (above - below) + noise * triangular(rng);
                image.push((value + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
    image
}

/// Two colours that differ by at least 100 of 765 levels.
fn colours(rng: &mut ChaCha8Rng) -> (Colour, Colour) {
    let mut colour = || -> Colour { std::array::from_fn(|_| between(rng, 30.0, 225.0)) };
    let ground = colour();
    loop {
        let figure = colour();
        let difference: f32 = ground.iter().zip(figure).map(|(a, b)| (a - b).abs()).sum();
        if difference >= 100.0 {
            return (ground, figure);
        }
    }
}

/// A random unit vector: a rational point of the first quadrant's arc, turned by quarters.
fn direction(rng: &mut ChaCha8Rng) -> (f32, f32) {
    let t: f32 = rng.random();
    let norm = 1.0 + t * t;
    let (c, s) = ((1.0 - t * t) / norm, 2.0 * t / norm);
    match rng.random_range(0..4u32) {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    }
}

fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + rng.random::<f32>() * (high - low)
}

/// Triangular noise on (−1, 1), deviation 0.41.
fn triangular(rng: &mut ChaCha8Rng) -> f32 {
    rng.random::<f32>() - rng.random::<f32>()
}
