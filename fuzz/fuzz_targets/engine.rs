//! Quantized model files all the way through: lowering returns whatever they say, and small networks give the same
//! logits by the scalar reference and by the kernels.
#![no_main]

use std::path::Path;

use addernet_engine::{Engine, Program, reference};
use addernet_graph::file::ModelFile;
use addernet_kernels::available_u8;
use addernet_quant::store;
use libfuzzer_sys::fuzz_target;

/// Values of a map, and terms of a layer, up to which a network is run.
const SMALL: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = ModelFile::from_bytes(bytes, Path::new("fuzz.safetensors")) else {
        return;
    };
    let Ok(quantized) = store::from_file(file) else {
        return;
    };
    let Ok(program) = Program::lower(&quantized) else {
        return;
    };
    let graph = program.graph();
    let small = graph.nodes().iter().all(|node| {
        let weights: usize = node
            .parameters()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        let map = node.shape();
        map.values() <= SMALL
            && map.height * map.width * weights <= SMALL
            && window(node.op()) <= SMALL
    });
    if !small {
        return;
    }
    let pixels: Vec<u8> = (0..graph.input_shape().values())
        .map(|i| (i * 37) as u8)
        .collect();
    let expected = reference::logits(&program, &pixels).unwrap();
    for &kernel in available_u8() {
        let engine = Engine::from_program(program.clone(), kernel).unwrap();
        assert_eq!(
            engine.run(&pixels[..]).unwrap().values(),
            expected,
            "{}",
            kernel.name()
        );
    }
});

/// Places of a window with its padding around the map.
fn window(op: &addernet_graph::Op) -> usize {
    use addernet_graph::Op;
    let area = |[height, width]: [usize; 2], [rows, columns]: [usize; 2]| {
        (height + 2 * rows).saturating_mul(width + 2 * columns)
    };
    match op {
        Op::AdderConv(a) | Op::Conv(a) => area(a.kernel, a.padding),
        Op::MaxPool(a) | Op::AvgPool(a) => area(a.kernel, a.padding),
        _ => 0,
    }
}
