//! Which maps share memory.

use crate::program::*;

/// A value that a step reads or writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Map(MapId),
    Codes(CodesId),
}

/// Gives every map and every map of codes a slot. A slot is reused once nothing reads its value any
/// more. Maps of codes share a slot only with those of the same layout, whose border they then share: it
/// is filled once. A residual addition happens in place where it can.
pub(super) fn assign_slots(
    steps: &[Step],
    maps: &mut [MapSpec],
    codes: &mut [CodesSpec],
    output: Output,
) {
    let mut last_use = vec![0; maps.len() + codes.len()];
    let index = |value: Value| match value {
        Value::Map(id) => id,
        Value::Codes(id) => maps.len() + id,
    };
    for (at, step) in steps.iter().enumerate() {
        // What is written counts too: a value that nothing reads must not overlap its step's others.
        for value in reads(&step.kind).into_iter().chain(writes(&step.kind)) {
            last_use[index(value)] = at;
        }
    }
    if let OutputFrom::Map(id) = output.from {
        last_use[id] = usize::MAX;
    }
    let map_count = maps.len();
    let (mut free_maps, mut map_slots) = (Vec::new(), 0);
    // Free slots of maps of codes, with a map that had them: its layout is the slot's.
    let (mut free_codes, mut code_slots): (Vec<CodesId>, usize) = (Vec::new(), 0);
    for (at, step) in steps.iter().enumerate() {
        let in_place = in_place(&step.kind).filter(|&(residual, _)| last_use[residual] == at);
        for value in writes(&step.kind) {
            match value {
                Value::Map(id) => {
                    maps[id].slot = match in_place {
                        Some((residual, map)) if map == id => maps[residual].slot,
                        _ => free_maps.pop().unwrap_or_else(|| {
                            map_slots += 1;
                            map_slots - 1
                        }),
                    };
                }
                Value::Codes(id) => {
                    let same = free_codes
                        .iter()
                        .position(|&free| codes[free].layout == codes[id].layout);
                    codes[id].slot = match same {
                        Some(at) => codes[free_codes.swap_remove(at)].slot,
                        None => {
                            code_slots += 1;
                            code_slots - 1
                        }
                    };
                }
            }
        }
        let mut ended: Vec<Value> = reads(&step.kind);
        ended.extend(writes(&step.kind));
        let mut freed: Vec<Value> = Vec::new();
        for value in ended {
            if freed.contains(&value) {
                continue;
            }
            freed.push(value);
            match value {
                // Handed on to the output, the slot stays in use.
                Value::Map(id)
                    if last_use[id] == at
                        && in_place.is_none_or(|(residual, _)| residual != id) =>
                {
                    free_maps.push(maps[id].slot);
                }
                Value::Codes(id) if last_use[map_count + id] == at => free_codes.push(id),
                _ => {}
            }
        }
    }
}

fn reads(kind: &StepKind) -> Vec<Value> {
    match kind {
        StepKind::Pixels { .. } | StepKind::PixelMap { .. } => Vec::new(),
        StepKind::PixelConv(conv) => {
            let mut reads = vec![Value::Codes(conv.input)];
            reads.extend(residual(&conv.finish).map(Value::Map));
            reads
        }
        StepKind::Adder(adder) => {
            let mut reads: Vec<_> = adder
                .groups
                .iter()
                .map(|group| Value::Codes(group.input))
                .collect();
            reads.extend(residual(&adder.finish).map(Value::Map));
            reads
        }
        StepKind::Dense(dense) => vec![Value::Map(dense.from)],
        StepKind::Add { from, .. } => from.map(Value::Map).to_vec(),
        StepKind::Rescale { from, .. }
        | StepKind::Relu { from, .. }
        | StepKind::Pool { from, .. }
        | StepKind::Flatten { from, .. }
        | StepKind::Quantize { from, .. } => vec![Value::Map(*from)],
    }
}

fn writes(kind: &StepKind) -> Vec<Value> {
    match kind {
        StepKind::Pixels { codes } => vec![Value::Codes(*codes)],
        StepKind::PixelMap { map, .. } => vec![Value::Map(*map)],
        StepKind::PixelConv(conv) => finished(&conv.finish),
        StepKind::Adder(adder) => finished(&adder.finish),
        StepKind::Dense(dense) => dense.to.map(Value::Map).into_iter().collect(),
        StepKind::Rescale { to, .. }
        | StepKind::Add { to, .. }
        | StepKind::Relu { to, .. }
        | StepKind::Pool { to, .. }
        | StepKind::Flatten { to, .. } => vec![Value::Map(*to)],
        StepKind::Quantize { codes, .. } => codes
            .iter()
            .map(|codes| Value::Codes(codes.codes))
            .collect(),
    }
}

fn finished(finish: &Finish) -> Vec<Value> {
    match finish {
        Finish::Codes(codes) => vec![Value::Codes(codes.codes)],
        Finish::Map { map, codes, .. } => {
            let codes = codes.iter().map(|codes| Value::Codes(codes.codes));
            std::iter::once(Value::Map(*map)).chain(codes).collect()
        }
    }
}

fn residual(finish: &Finish) -> Option<MapId> {
    match finish {
        Finish::Map { residual, .. } => *residual,
        Finish::Codes(_) => None,
    }
}

/// The residual and the map that could take its place.
fn in_place(kind: &StepKind) -> Option<(MapId, MapId)> {
    let finish = match kind {
        StepKind::PixelConv(conv) => &conv.finish,
        StepKind::Adder(adder) => &adder.finish,
        _ => return None,
    };
    match finish {
        Finish::Map {
            residual: Some(residual),
            map,
            ..
        } => Some((*residual, *map)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
