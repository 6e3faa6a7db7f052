use addernet_graph::Executor;

use super::*;
use crate::method::MethodKind;
use crate::testing::{images, model, observations, provenance};

fn settings(labels: f32) -> Reconstruction {
    let mut settings = Reconstruction::new(3, 4);
    settings.tuning = Tuning {
        steps: 0,
        affine_rate: if labels == 1.0 { 0.05 } else { 0.01 },
        weight_rate: 0.02,
        scale_rate: 0.01,
        temperature: 1.0,
        features: if labels == 1.0 { 0.0 } else { 1.0 },
        mixup: 0.0,
        labels,
    };
    settings
}

/// Runs `test` with a learner that has just had its scales searched.
fn with_learner(labels: f32, test: impl FnOnce(Learner<'_>, &Executor<'_>, &Observations)) {
    let model = model();
    let observations = observations(&model);
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    let learner = Learner::search(
        &executor,
        &observations,
        &settings(labels),
        &images(32, 0.5),
        kernel_u8(),
        &(),
    );
    test(learner.unwrap(), &executor, &observations);
}

fn kernel_u8() -> &'static dyn AdderKernelU8 {
    addernet_kernels::select_u8(None).unwrap()
}

/// Twelve images with two classes of six that the network has.
fn steps(learner: &mut Learner<'_>, range: std::ops::Range<usize>) -> Vec<Learned> {
    let labels = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0];
    range
        .map(|step| learner.step(&images(12, 0.1), &labels, step, 1.0).unwrap())
        .collect()
}

#[test]
fn a_restored_learner_goes_on_bit_for_bit() {
    with_learner(0.5, |mut learner, executor, observations| {
        steps(&mut learner, 0..3);
        let state = learner.state();
        let whole = steps(&mut learner, 3..6);
        let restored = Learner::restore(
            executor,
            observations,
            &settings(0.5),
            kernel_u8(),
            state.clone(),
        );
        let mut restored = restored.unwrap();
        assert_eq!(restored.state(), state);
        assert_eq!(steps(&mut restored, 3..6), whole);
        assert_eq!(restored.state(), learner.state());
        assert_ne!(restored.state(), state);
        let finish = |learner: &Learner<'_>| {
            let provenance = provenance(MethodKind::Reconstruction, 3);
            let finished = learner.finish(observations, &images(32, 0.5), provenance);
            finished.unwrap()
        };
        let (a, b) = (finish(&learner), finish(&restored));
        assert_eq!(a.layers(), b.layers());
        assert_eq!(a.model().parameters(), b.model().parameters());
    });
}

#[test]
fn labels_alone_are_learned() {
    with_learner(1.0, |mut learner, _, _| {
        let mut step = |step| learner.step(&images(12, 0.1), &[3; 12], step, 1.0).unwrap();
        let first = step(0);
        let last = (1..60).map(step).last().unwrap();
        assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
        assert!(
            first.correct < 12 && last.correct == 12,
            "{first:?} {last:?}"
        );
    });
}

#[test]
fn damaged_states_are_refused() {
    with_learner(0.0, |learner, executor, observations| {
        type Damage = fn(&mut BTreeMap<String, Vec<f32>>);
        let latent = "student.conv2.latent";
        assert!(learner.state().contains_key(latent));
        let damages: [(Damage, &str); 6] = [
            (|s| drop(s.remove("student.conv2.latent")), "is missing"),
            (|s| drop(s.insert("x".into(), vec![])), "`x` is unknown"),
            (
                |s| s.get_mut("student.conv2.latent").unwrap().truncate(359),
                "should be 360 finite values; it has 359",
            ),
            (
                |s| s.get_mut("optimizer.bn2.first.a").unwrap()[0] = f32::NAN,
                "`optimizer.bn2.first.a` should be 8 finite",
            ),
            (
                |s| s.get_mut("student.conv3.scale").unwrap()[0] = -1.0,
                "the scale of `conv3` is not above 0",
            ),
            (
                |s| s.get_mut("teacher.conv3.output_step").unwrap()[0] = 0.0,
                "the scale of `conv3` is not above 0",
            ),
        ];
        for (damage, expected) in damages {
            let mut state = learner.state();
            damage(&mut state);
            let restored =
                Learner::restore(executor, observations, &settings(0.0), kernel_u8(), state);
            let error = restored.err().expect(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn each_image_needs_a_label() {
    with_learner(0.5, |mut learner, _, _| {
        let error = learner.step(&images(4, 0.1), &[0; 3], 0, 1.0).unwrap_err();
        assert!(
            error.to_string().contains("3 labels for 4 images"),
            "{error}"
        );
    });
}
