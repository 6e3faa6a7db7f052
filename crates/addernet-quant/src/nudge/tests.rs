use super::*;
use crate::method::MethodKind;
use crate::testing;

/// How many values of `after` are the upper and the lower neighbours of those of `before`; all of them must be one of
/// these, or both zero.
fn moves<'a>(
    before: impl IntoIterator<Item = &'a f32>,
    after: impl IntoIterator<Item = &'a f32>,
) -> [usize; 2] {
    let mut moves = [0, 0];
    for (&before, &after) in before.into_iter().zip(after) {
        if before == 0.0 {
            assert_eq!(after, 0.0);
        } else if after == before.next_up() {
            moves[0] += 1;
        } else {
            assert_eq!(after, before.next_down());
            moves[1] += 1;
        }
    }
    moves
}

#[test]
fn bn_moves_to_neighbouring_floats_and_nothing_else_moves() {
    let model = testing::model();
    let nudged = nudge(&model, 7).unwrap();
    assert_eq!(nudge(&model, 7).unwrap().parameters(), nudged.parameters());
    assert_ne!(nudge(&model, 8).unwrap().parameters(), nudged.parameters());
    for (name, values) in model.parameters() {
        let after = &nudged.parameters()[name];
        if name.starts_with("bn") && !name.contains("running") {
            let [up, down] = moves(values, after);
            assert!(up + down > 0, "{name}");
        } else {
            assert_eq!(values, after, "{name}");
        }
    }
}

#[test]
fn biases_of_quantized_layers_move_with_the_models() {
    let quantized = testing::quantized(MethodKind::Redistribution, 4);
    let nudged = quantized.nudged(3).unwrap();
    let (mut up, mut down) = (0, 0);
    for (name, layer) in quantized.layers() {
        let after = &nudged.layers()[name];
        let moved = moves(&layer.bias, &after.bias);
        (up, down) = (up + moved[0], down + moved[1]);
        assert_eq!(layer.codes, after.codes);
        let node = nudged.model().graph().id(name).unwrap();
        let node = &nudged.model().graph().nodes()[node];
        assert_eq!(nudged.model().values(node, "bias").unwrap(), after.bias);
    }
    assert!(up > 0 && down > 0, "{up} {down}");
}
