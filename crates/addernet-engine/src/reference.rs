//! The plainest interpretation of a [`Program`]: direct loops, unpadded maps, i64 throughout. What the
//! kernels compute is defined by it, and by docs/INTEGER.md in words.

use addernet_graph::FeatureShape;
use addernet_kernels::{ChannelScales, CodeRange};

use crate::error::EngineError;
use crate::program::*;
use crate::run::mean;

mod trace;

pub use trace::{NodeValues, trace};

/// Values of a map, height x width x channels.
struct Plane {
    shape: FeatureShape,
    values: Vec<i64>,
}

impl Plane {
    /// The value of channel `c` at a row and column that may be outside, where it is `pad`.
    fn at(&self, y: i64, x: i64, c: usize, pad: i64) -> i64 {
        let FeatureShape {
            channels,
            height,
            width,
        } = self.shape;
        if y < 0 || x < 0 || y >= height as i64 || x >= width as i64 {
            return pad;
        }
        self.values[(y as usize * width + x as usize) * channels + c]
    }

    fn map(&self, f: impl Fn(usize, i64) -> i64) -> Self {
        let channels = self.shape.channels;
        let values = self
            .values
            .iter()
            .enumerate()
            .map(|(i, &v)| f(i % channels, v));
        Self {
            shape: self.shape,
            values: values.collect(),
        }
    }
}

/// The integer logits of one image, whose pixels are height x width x channels.
///
/// # Errors
/// [`EngineError::ImageLength`] if there are more or fewer pixels.
pub fn logits(program: &Program, pixels: &[u8]) -> Result<Vec<i32>, EngineError> {
    let mut state = run(program, pixels)?;
    let logits = match program.output.from {
        OutputFrom::Wide => state.wide,
        OutputFrom::Map(id) => state.maps[id]
            .take()
            .map(|map| map.values)
            .unwrap_or_default(),
    };
    Ok(logits.into_iter().map(|v| v as i32).collect())
}

/// All values of the network for one image.
fn run<'p>(program: &'p Program, pixels: &[u8]) -> Result<State<'p>, EngineError> {
    let shape = program.graph.input_shape();
    if pixels.len() != shape.values() {
        let values = pixels.len();
        return Err(EngineError::ImageLength { values, shape });
    }
    let mut state = State {
        program,
        pixels: Plane {
            shape,
            values: pixels.iter().map(|&x| x.into()).collect(),
        },
        maps: program.maps.iter().map(|_| None).collect(),
        codes: program.codes.iter().map(|_| None).collect(),
        wide: Vec::new(),
    };
    for step in &program.steps {
        state
            .step(step)
            .ok_or_else(|| EngineError::layer(&step.node, "it reads what no step has computed"))?;
    }
    Ok(state)
}

struct State<'p> {
    program: &'p Program,
    pixels: Plane,
    maps: Vec<Option<Plane>>,
    codes: Vec<Option<Plane>>,
    wide: Vec<i64>,
}

impl State<'_> {
    /// `None` if the step reads what is not there.
    fn step(&mut self, step: &Step) -> Option<()> {
        match &step.kind {
            StepKind::Pixels { codes } => self.codes[*codes] = Some(self.pixels.map(|_, x| x)),
            StepKind::PixelMap { scales, map } => {
                self.maps[*map] = Some(self.pixels.map(|c, x| to_i16(scaled(scales, c, x))));
            }
            StepKind::PixelConv(conv) => {
                let input = self.codes[conv.input].as_ref()?;
                let pad = &self.program.codes[conv.input].layout.pad;
                let sums = windows(
                    &conv.window,
                    input,
                    |c| pad[c].into(),
                    |o, i, x| i64::from(conv.weights[o * taps(&conv.window) + i]) * x,
                );
                self.finish(&conv.finish, &sums)?;
            }
            StepKind::Adder(adder) => {
                let mut sums = Plane {
                    shape: adder.out,
                    values: vec![0; adder.out.values()],
                };
                for group in &adder.groups {
                    let input = self.codes[group.input].as_ref()?;
                    let pad = &self.program.codes[group.input].layout.pad;
                    let part = windows(
                        &group.window,
                        input,
                        |c| pad[c].into(),
                        |o, i, x| (x - i64::from(group.weights[o * taps(&group.window) + i])).abs(),
                    );
                    let own = group.channels.len();
                    for (i, &sum) in part.values.iter().enumerate() {
                        sums.values[i / own * adder.out.channels + group.channels[i % own]] = sum;
                    }
                }
                self.finish(&adder.finish, &sums)?;
            }
            StepKind::Dense(dense) => {
                let input = self.maps[dense.from].as_ref()?;
                let [_, channels, height, width] = dense.window.shape;
                let sums = windows(
                    &dense.window,
                    input,
                    |_| 0,
                    |o, i, x| {
                        let (c, tap) = (i / (height * width), i % (height * width));
                        i64::from(dense.weights[o * taps(&dense.window) + tap * channels + c]) * x
                    },
                );
                let value = |o: usize, s: i64| {
                    let scale = dense.scales[o];
                    let v = (s * scale.multiplier + scale.offset) >> scale.shift;
                    if dense.relu { v.max(0) } else { v }
                };
                let values = sums.map(value);
                match dense.to {
                    Some(map) => self.maps[map] = Some(values.map(|_, v| to_i16(v))),
                    None => {
                        self.wide = values
                            .map(|_, v| v.clamp(i32::MIN.into(), i32::MAX.into()))
                            .values
                    }
                }
            }
            StepKind::Rescale { from, scales, to } => {
                self.maps[*to] = Some(
                    self.maps[*from]
                        .as_ref()?
                        .map(|c, v| to_i16(scaled(scales, c, v))),
                );
            }
            StepKind::Add { from: [a, b], to } => {
                let (a, b) = (self.maps[*a].as_ref()?, self.maps[*b].as_ref()?);
                let values = a
                    .values
                    .iter()
                    .zip(&b.values)
                    .map(|(a, b)| to_i16(a + b))
                    .collect();
                self.maps[*to] = Some(Plane {
                    shape: a.shape,
                    values,
                });
            }
            StepKind::Relu { from, to } => {
                self.maps[*to] = Some(self.maps[*from].as_ref()?.map(|_, v| v.max(0)));
            }
            StepKind::Pool { from, pool, to } => {
                let shape = self.program.maps[*to].shape;
                self.maps[*to] = Some(pooled(pool, self.maps[*from].as_ref()?, shape));
            }
            StepKind::Flatten { from, to } => {
                let input = self.maps[*from].as_ref()?;
                let (area, channels) =
                    (input.shape.height * input.shape.width, input.shape.channels);
                let value = |i: usize| input.values[i % area * channels + i / area];
                self.maps[*to] = Some(Plane {
                    shape: self.program.maps[*to].shape,
                    values: (0..area * channels).map(value).collect(),
                });
            }
            StepKind::Quantize { from, codes } => self.quantize(*from, codes)?,
        }
        Some(())
    }

    fn finish(&mut self, finish: &Finish, sums: &Plane) -> Option<()> {
        match finish {
            Finish::Codes(SumCodes {
                codes,
                scales,
                range,
            }) => {
                self.codes[*codes] = Some(sums.map(|c, s| code(*range, scaled(scales, c, s))));
            }
            Finish::Map {
                scales,
                residual,
                relu,
                map,
                codes,
            } => {
                let mut values = sums.map(|c, s| to_i16(scaled(scales, c, s))).values;
                if let Some(residual) = residual {
                    let residual = self.maps[*residual].as_ref()?;
                    values
                        .iter_mut()
                        .zip(&residual.values)
                        .for_each(|(v, r)| *v += r);
                }
                let low = if *relu { 0 } else { i16::MIN.into() };
                values
                    .iter_mut()
                    .for_each(|v| *v = (*v).clamp(low, i16::MAX.into()));
                self.maps[*map] = Some(Plane {
                    shape: sums.shape,
                    values,
                });
                self.quantize(*map, codes)?;
            }
        }
        Some(())
    }

    fn quantize(&mut self, from: MapId, all: &[MapCodes]) -> Option<()> {
        for MapCodes {
            codes,
            scale,
            range,
        } in all
        {
            let value = |_, v: i64| {
                let half = 1 << (scale.shift() - 1);
                let q = (v * i64::from(scale.multiplier()) + half) >> scale.shift();
                let q = q + i64::from(scale.zero());
                code(*range, q)
            };
            self.codes[*codes] = Some(self.maps[from].as_ref()?.map(value));
        }
        Some(())
    }
}

fn to_i16(v: i64) -> i64 {
    v.clamp(i16::MIN.into(), i16::MAX.into())
}

fn code(range: CodeRange, q: i64) -> i64 {
    q.clamp(0, range.max.into()) * i64::from(range.factor)
}

fn scaled(scales: &ChannelScales, c: usize, s: i64) -> i64 {
    let (multiplier, offset, shift) = scales.channel(c);
    (s * i64::from(multiplier) + i64::from(offset)) >> shift
}

fn taps(window: &Window) -> usize {
    window.shape[1..].iter().product()
}

/// For every window and kernel the sum over channels, rows and columns, in that order, of
/// `term(kernel, place, value)`.
fn windows(
    window: &Window,
    input: &Plane,
    pad: impl Fn(usize) -> i64,
    term: impl Fn(usize, usize, i64) -> i64,
) -> Plane {
    let [out_channels, channels, kernel_height, kernel_width] = window.shape;
    let extent = |size: usize, at: usize| {
        (size + 2 * window.padding[at] - window.shape[2 + at]) / window.stride[at] + 1
    };
    let shape = FeatureShape::new(
        out_channels,
        extent(input.shape.height, 0),
        extent(input.shape.width, 1),
    );
    let mut values = Vec::with_capacity(shape.values());
    for row in 0..shape.height {
        for column in 0..shape.width {
            for o in 0..out_channels {
                let mut sum = 0;
                for c in 0..channels {
                    for u in 0..kernel_height {
                        for v in 0..kernel_width {
                            let y = (row * window.stride[0] + u) as i64 - window.padding[0] as i64;
                            let x =
                                (column * window.stride[1] + v) as i64 - window.padding[1] as i64;
                            let place = (c * kernel_height + u) * kernel_width + v;
                            sum += term(o, place, input.at(y, x, c, pad(c)));
                        }
                    }
                }
                values.push(sum);
            }
        }
    }
    Plane { shape, values }
}

/// Maximum over the places of each window inside the map, or mean over all of its places.
fn pooled(pool: &Pool, input: &Plane, shape: FeatureShape) -> Plane {
    let mut values = Vec::with_capacity(shape.values());
    for row in 0..shape.height {
        for column in 0..shape.width {
            for c in 0..shape.channels {
                let pad = if pool.max { i16::MIN.into() } else { 0 };
                let places = (0..pool.kernel[0] * pool.kernel[1]).map(|place| {
                    let (u, v) = (place / pool.kernel[1], place % pool.kernel[1]);
                    let y = (row * pool.stride[0] + u) as i64 - pool.padding[0] as i64;
                    let x = (column * pool.stride[1] + v) as i64 - pool.padding[1] as i64;
                    input.at(y, x, c, pad)
                });
                values.push(match pool.max {
                    true => places.max().unwrap_or(pad),
                    false => {
                        let count = places.len() as i64;
                        mean(places.sum(), count).into()
                    }
                });
            }
        }
    }
    Plane { shape, values }
}
