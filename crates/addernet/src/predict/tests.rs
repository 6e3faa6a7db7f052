use super::*;

#[test]
fn the_best_classes_come_first_with_their_probabilities() {
    let prediction = Prediction::new(vec![1.0, 3.0, 3.0, -1.0]);
    let top = prediction.top(3);
    assert_eq!(top.iter().map(|c| c.class).collect::<Vec<_>>(), [1, 2, 0]);
    let total = 2.0 + (-2f64).exp() + (-4f64).exp();
    assert!((top[0].score - 1.0 / total).abs() < 1e-12);
    assert_eq!(top[2].logit, 1.0);
    let all = prediction.top(99);
    assert_eq!(all.len(), 4);
    assert!((all.iter().map(|c| c.score).sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn large_logits_do_not_overflow() {
    let top = Prediction::new(vec![1e30, 0.0]).top(1);
    assert_eq!((top[0].class, top[0].score), (0, 1.0));
}
