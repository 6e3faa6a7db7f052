use super::*;
use addernet_graph::FeatureShape;

fn maps(count: usize) -> Vec<MapSpec> {
    let shape = FeatureShape::new(1, 2, 2);
    let map = MapSpec {
        shape,
        slot: 9,
        node: 0,
        fraction: 0,
    };
    vec![map; count]
}

fn step(kind: StepKind) -> Step {
    Step {
        node: String::new(),
        kind,
    }
}

/// A step that writes map 0.
fn first() -> Step {
    step(StepKind::PixelMap {
        scales: addernet_kernels::ChannelScales::new([(1, 0, 0)]).unwrap(),
        map: 0,
    })
}

fn output(map: MapId) -> Output {
    Output {
        from: OutputFrom::Map(map),
        classes: 4,
        fraction: 0,
    }
}

#[test]
fn a_chain_of_maps_takes_two_slots() {
    let relu = |from| step(StepKind::Relu { from, to: from + 1 });
    let steps: Vec<_> = std::iter::once(first()).chain((0..5).map(relu)).collect();
    let mut maps = maps(6);
    assign_slots(&steps, &mut maps, &mut [], output(5));
    let slots: Vec<_> = maps.iter().map(|map| map.slot).collect();
    assert!(
        maps.windows(2).all(|pair| pair[0].slot != pair[1].slot),
        "{slots:?}"
    );
    assert!(slots.iter().all(|&slot| slot < 2), "{slots:?}");
}

#[test]
fn a_map_keeps_its_slot_until_its_last_reader() {
    let steps = [
        first(),
        step(StepKind::Relu { from: 0, to: 1 }),
        step(StepKind::Relu { from: 1, to: 2 }),
        step(StepKind::Relu { from: 2, to: 3 }),
        step(StepKind::Add {
            from: [1, 3],
            to: 4,
        }),
    ];
    let mut maps = maps(5);
    assign_slots(&steps, &mut maps, &mut [], output(4));
    for (a, b) in [(1, 2), (1, 3), (2, 3), (1, 4), (3, 4)] {
        assert_ne!(maps[a].slot, maps[b].slot, "{a} {b}");
    }
}

#[test]
fn codes_share_a_slot_only_with_their_own_layout() {
    let layout = |padding| CodesLayout {
        shape: FeatureShape::new(8, 2, 2),
        padding: [padding; 2],
        pad: vec![0; 8],
        multiple: 8,
    };
    let spec = |padding| CodesSpec {
        layout: layout(padding),
        slot: 9,
        meaning: None,
    };
    let mut codes = vec![spec(1), spec(0), spec(1), spec(1)];
    let steps: Vec<_> = (0..4)
        .map(|codes| step(StepKind::Pixels { codes }))
        .collect();
    assign_slots(&steps, &mut maps(1), &mut codes, output(0));
    let slots: Vec<_> = codes.iter().map(|codes| codes.slot).collect();
    assert_eq!(slots, [0, 1, 0, 0]);
}
