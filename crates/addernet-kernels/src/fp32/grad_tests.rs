//! The gradients of every variant against the scalar reference, which carries its sums in f64.

use super::tests::{Problem, problems};
use crate::pools::Pool;
use crate::{AdderKernelF32, KernelError, WeightGradient, available, reference};
use proptest::prelude::*;

/// The largest difference, relative to the largest expected magnitude.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let error = |(a, b): (&f32, &f32)| (a - b).abs();
    found.iter().zip(expected).map(error).fold(0.0, f32::max) / largest
}

fn grad_input(kernel: &dyn AdderKernelF32, problem: &Problem, grad_y: &[f32]) -> Vec<f32> {
    let (x, w) = (problem.x(), problem.w());
    let mut grad_x = vec![f32::NAN; x.len()];
    kernel
        .grad_input(&problem.geometry, &x, &w, grad_y, &mut grad_x)
        .unwrap();
    grad_x
}

fn grad_weight(
    kernel: &dyn AdderKernelF32,
    problem: &Problem,
    grad_y: &[f32],
    kind: WeightGradient,
) -> Vec<f32> {
    let (x, w) = (problem.x(), problem.w());
    let mut grad_w = vec![f32::NAN; w.len()];
    kernel
        .grad_weight(&problem.geometry, &x, &w, grad_y, kind, &mut grad_w)
        .unwrap();
    grad_w
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_variants_gradients_are_close_to_the_reference(problem in problems()) {
        let (g, x, w) = (&problem.geometry, problem.x(), problem.w());
        let grad_y = problem.reference().iter().map(|y| (0.7 * y).sin()).collect::<Vec<_>>();
        let mut expected_x = vec![0.0; x.len()];
        reference::grad_input(g, &x, &w, &grad_y, &mut expected_x).unwrap();
        let mut expected_w = vec![0.0; w.len()];
        reference::grad_weight(g, &x, &w, &grad_y, &mut expected_w).unwrap();
        let mut clamped_w = vec![0.0; w.len()];
        reference::grad_weight_clamped(g, &x, &w, &grad_y, &mut clamped_w).unwrap();
        for &kernel in available() {
            let error = relative_error(&grad_input(kernel, &problem, &grad_y), &expected_x);
            prop_assert!(error < 1e-4, "{}: input gradient off by {error}", kernel.name());
            for (kind, expected) in [
                (WeightGradient::FullPrecision, &expected_w),
                (WeightGradient::Clamped, &clamped_w),
            ] {
                let found = grad_weight(kernel, &problem, &grad_y, kind);
                let error = relative_error(&found, expected);
                prop_assert!(error < 1e-4, "{}: {kind:?} gradient off by {error}", kernel.name());
            }
        }
    }
}

#[test]
fn threads_do_not_change_gradients() {
    let geometry = crate::ConvGeometry::new([5, 9, 9, 20], 11, [3, 3], [2, 2], [1, 1]).unwrap();
    let problem = Problem::new(geometry, 7);
    let grad_y = problem.reference();
    for &kernel in available() {
        let run = |threads: usize| {
            Pool::new(threads).install(|| {
                let kind = WeightGradient::Clamped;
                let grad_w = grad_weight(kernel, &problem, &grad_y, kind);
                (grad_input(kernel, &problem, &grad_y), grad_w)
            })
        };
        assert_eq!(run(1), run(3), "{}", kernel.name());
    }
}

#[test]
fn gradients_of_wrong_lengths_are_errors() {
    let geometry = crate::ConvGeometry::new([1, 4, 4, 3], 2, [3, 3], [1, 1], [1, 1]).unwrap();
    let (x, w, grad_y) = (vec![0.0; 48], vec![0.0; 54], vec![0.0; 32]);
    for &kernel in available() {
        let wrong = |result| {
            assert!(matches!(result, Err(KernelError::WrongLength { .. })));
        };
        let mut grad = vec![0.0; 48];
        wrong(kernel.grad_input(&geometry, &x, &w, &grad_y, &mut grad[1..]));
        wrong(kernel.grad_input(&geometry, &x, &w, &grad_y[1..], &mut grad));
        let kind = WeightGradient::FullPrecision;
        wrong(kernel.grad_weight(&geometry, &x, &w, &grad_y, kind, &mut grad));
        wrong(kernel.grad_weight(&geometry, &x[1..], &w, &grad_y, kind, &mut vec![0.0; 54]));
    }
}
