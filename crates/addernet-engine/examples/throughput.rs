//! How fast the engine is, measured on request: benches/peers/int8_network.py runs it beside other engines.
//!
//! ```text
//! cargo run --release -p addernet-engine --example throughput -- FILE|--random resnet20|resnet18 [--threads N]
//! ```
//!
//! Each line on standard input is a request, answered by one line of JSON:
//! `run BATCH SECONDS` (images per second), `peak SECONDS` (terms |x − w| per second of the u8 operator on
//! registers alone), `layer HEIGHT WIDTH CHANNELS KERNELS SIZE STRIDE SECONDS [LARGEST]` (terms per second of one
//! adder layer with "same" padding and codes up to 255 or LARGEST, from padded codes to the next layer's codes), `layers SECONDS` (each
//! step of the network), `digest BATCH` (a number that depends on every bit of the logits of made-up images,
//! the same wherever the engine runs).

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use addernet_engine::{Engine, EngineError};
use addernet_graph::zoo::Architecture;
use addernet_graph::{Model, ModelInfo, Op, Parameters, Preprocessing};
use addernet_kernels::{ChannelScales, CodeRange, CodeRows, ConvGeometry, bench, peak, select_u8};
use addernet_quant::{ActivationRange, Observations, Provenance, QuantizedModel, Redistribution};
use ndarray::ArrayD;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut engine, mut threads) = (None, 1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("a flag lacks its value");
        match argument.as_str() {
            "--threads" => threads = value()?.parse()?,
            "--random" => engine = Some(random(value()?.parse()?)?),
            file => engine = Some(Engine::load(file)?),
        }
    }
    let engine = engine.ok_or("give a quantized model file, or --random resnet20")?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        // So that a single thread needs no other one, which WebAssembly does not have.
        .use_current_thread()
        .build()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = pool.install(|| answer(&engine, &words))?;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn answer(engine: &Engine, words: &[&str]) -> Result<Value> {
    match *words {
        ["run", batch, seconds] => {
            let batch: usize = batch.parse()?;
            let pixels = pixels(batch * engine.program().graph().input_shape().values());
            let calls = per_second(seconds.parse()?, || engine.run(&pixels[..]).map(|_| ()))?;
            Ok(json!({"images_per_second": calls * batch as f64, "batch": batch}))
        }
        ["peak", seconds] => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            let rate = peak::u8_elements_per_second(engine.kernel(), time);
            Ok(json!({"elements_per_second": rate}))
        }
        [
            "layer",
            height,
            width,
            channels,
            kernels,
            size,
            stride,
            seconds,
            ref largest @ ..,
        ] if largest.len() < 2 => {
            let sizes = [height, width, channels, kernels, size, stride];
            let [height, width, channels, kernels, size, stride] = parsed(sizes)?;
            let rate = layer(
                [height, width, channels],
                kernels,
                size,
                stride,
                seconds.parse()?,
                largest
                    .first()
                    .map_or(Ok(u8::MAX), |largest| largest.parse())?,
            )?;
            Ok(json!({"elements_per_second": rate}))
        }
        ["digest", batch] => {
            let batch: usize = batch.parse()?;
            let pixels = pixels(batch * engine.program().graph().input_shape().values());
            Ok(json!({"digest": digest(engine.run(&pixels[..])?.values())}))
        }
        ["layers", seconds] => layers(engine, seconds.parse()?),
        _ => Err(format!("unknown request `{}`", words.join(" ")).into()),
    }
}

fn parsed<const N: usize>(words: [&str; N]) -> Result<[usize; N]> {
    let mut numbers = [0; N];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse()?;
    }
    Ok(numbers)
}

/// Calls per second, over at least so many seconds after one call to warm up.
fn per_second<E: Error + Send + Sync + 'static>(
    seconds: f64,
    mut call: impl FnMut() -> std::result::Result<(), E>,
) -> Result<f64> {
    call()?;
    let (start, mut calls) = (Instant::now(), 0);
    loop {
        call()?;
        calls += 1;
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= seconds {
            return Ok(f64::from(calls) / elapsed);
        }
    }
}

/// The median time of each step.
fn layers(engine: &Engine, seconds: f64) -> Result<Value> {
    let pixels = pixels(engine.program().graph().input_shape().values());
    let (start, mut rounds) = (Instant::now(), Vec::new());
    while rounds.is_empty() || start.elapsed().as_secs_f64() < seconds {
        rounds.push(engine.layer_times(&pixels)?);
    }
    let median = |at: usize| {
        let mut times: Vec<f64> = rounds
            .iter()
            .map(|round| round[at].time.as_secs_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let steps = rounds[0].iter().enumerate().map(|(at, step)| {
        let seconds = median(at);
        json!({"node": step.node, "kind": step.kind, "seconds": seconds, "elements_per_second": step.elements as f64 / seconds})
    });
    Ok(json!({"layers": steps.collect::<Vec<_>>()}))
}

/// Terms per second of one adder layer.
fn layer(
    [height, width, channels]: [usize; 3],
    kernels: usize,
    size: usize,
    stride: usize,
    seconds: f64,
    largest: u8,
) -> Result<f64> {
    let border = size - 1;
    let input = [
        1,
        height + border,
        width + border,
        channels.next_multiple_of(8),
    ];
    let geometry = ConvGeometry::new(input, kernels, [size; 2], [stride; 2], [0, 0])?;
    let kernel = select_u8(None)?;
    let (mut x, mut w) = bench::operands_u8(&geometry);
    for code in x.iter_mut().chain(&mut w) {
        *code = ((u16::from(*code) * (u16::from(largest) + 1)) >> 8) as u8;
    }
    let packed = kernel.pack_small(geometry.weight_shape(), &w, largest)?;
    let scales = ChannelScales::new((0..kernels).map(|_| (1, 0, 10)))?;
    let folded = kernel.fold(&packed, &scales)?;
    let row = geometry.out_width() * kernels;
    let mut codes = vec![0u8; row * geometry.out_height()];
    let calls = per_second(seconds, || {
        let to = CodeRows {
            codes: &mut codes,
            start: 0,
            row_pitch: row,
            pixel_pitch: kernels,
            range: CodeRange {
                max: 255,
                factor: 1,
            },
        };
        kernel.forward_codes(&geometry, &x, &packed, &folded, to)
    })?;
    Ok(calls * geometry.elements() as f64)
}

/// FNV-1a over the bytes of numbers.
fn digest(values: &[i32]) -> String {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    let digest = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}

/// Pixels of all values.
fn pixels(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_769) >> 24) as u8)
        .collect()
}

/// A network of the zoo with weights of a smooth function, quantized to 8 bits.
fn random(architecture: Architecture) -> Result<Engine> {
    let graph = architecture.graph(architecture.default_input(), architecture.default_classes())?;
    let mut parameters = Parameters::new();
    for node in graph.nodes() {
        for (name, shape) in node.parameters() {
            let value = |i: usize| (i as f32 * 0.61).sin();
            let scale = match node.op() {
                Op::AdderConv(_) => 30.0,
                _ => (1.0 / shape[1..].iter().product::<usize>().max(1) as f32).sqrt(),
            };
            let values = (0..shape.iter().product()).map(|i| match name.rsplit('.').next() {
                Some("running_var") => 100.0,
                Some("running_mean") => -1000.0,
                Some("bias") => 0.5 * value(i),
                _ if matches!(node.op(), Op::BatchNorm { .. }) => 1.0 + 0.2 * value(i),
                _ => scale * value(i),
            });
            let values = ArrayD::from_shape_vec(shape.clone(), values.collect())?;
            parameters.insert(name, values);
        }
    }
    let channels = graph.input_shape().channels;
    let range = ActivationRange {
        min: 0.0,
        max: 4.0,
        bound: 3.0,
    };
    let layers: BTreeMap<_, _> = graph
        .adder_nodes()
        .map(|(_, node, _)| (node.name().to_owned(), range))
        .collect();
    let model = Model::new(graph, parameters)?.with_info(ModelInfo {
        preprocessing: Some(Preprocessing {
            mean: vec![0.5; channels],
            std: vec![0.25; channels],
        }),
        ..ModelInfo::default()
    })?;
    let method = Redistribution {
        bits: 8,
        groups: 4,
        weight_clamp: true,
    };
    let provenance = Provenance {
        method: "redistribution".to_owned(),
        weight_bits: 8,
        activation_bits: 8,
        groups: 4,
        weight_clamp: true,
        outlier_quantile: 1.0,
        calibration_images: 0,
        bn_images: 0,
        seed: 0,
        reconstruction: None,
    };
    let quantized = QuantizedModel::quantize(
        &model,
        &Observations {
            layers,
            images: 0,
            outlier_quantile: 1.0,
        },
        &method,
        provenance,
    )?;
    let kernel = select_u8(None)?;
    Engine::new(&quantized, kernel).map_err(|error: EngineError| error.into())
}
