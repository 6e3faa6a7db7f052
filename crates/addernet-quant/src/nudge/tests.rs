use super::*;
use crate::testing;

#[test]
fn bn_moves_to_neighbouring_floats_and_nothing_else_moves() {
    let model = testing::model();
    let nudged = nudge_bn(&model, 7).unwrap();
    assert_eq!(
        nudge_bn(&model, 7).unwrap().parameters(),
        nudged.parameters()
    );
    assert_ne!(
        nudge_bn(&model, 8).unwrap().parameters(),
        nudged.parameters()
    );
    let (mut up, mut down) = (0, 0);
    for (name, values) in model.parameters() {
        let moves = name.starts_with("bn") && !name.contains("running");
        for (&before, &after) in values.iter().zip(&nudged.parameters()[name]) {
            let neighbours = [before.next_down(), before.next_up()];
            let expected = match moves && before != 0.0 {
                true => neighbours.contains(&after),
                false => before == after,
            };
            assert!(expected, "{name}: {before} became {after}");
            up += usize::from(after > before);
            down += usize::from(after < before);
        }
    }
    assert!(up > 5 && down > 5, "{up} {down}");
}
