use addernet_data::{DatasetKind, Split};
use ndarray::array;

use super::*;
use crate::testing::lenet;

fn shapes(graph_of: &addernet_graph::Model) -> Images {
    Images::open(graph_of, DatasetKind::Shapes, None, Split::Test, None).unwrap()
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// Gives each image its mean value as the logit of class 3, and NaN for the images listed.
struct Means<'a> {
    graph: &'a Graph,
    nan: Vec<f32>,
}

impl Means<'_> {
    fn mean(image: ndarray::ArrayView3<'_, f32>) -> f32 {
        image.iter().sum::<f32>() / image.len() as f32
    }
}

impl Classifier for Means<'_> {
    fn graph(&self) -> &Graph {
        self.graph
    }

    fn logits(&self, images: Array4<f32>) -> Result<Array2<f32>, Error> {
        let mut logits = Array2::zeros((images.dim().0, 10));
        for (mut row, image) in logits.rows_mut().into_iter().zip(images.outer_iter()) {
            let mean = Self::mean(image);
            row[3] = if self.nan.contains(&mean) {
                f32::NAN
            } else {
                mean
            };
        }
        Ok(logits)
    }
}

#[test]
fn ranks_losses_and_ties() {
    // Labels: first, sixth and, of two equal largest, the second.
    let logits = array![
        [3.0, 2.0, 1.0, 0.0, -1.0, -2.0],
        [3.0, 2.0, 1.0, 0.0, -1.0, -2.0],
        [0.0, 9.0, 9.0, 0.0, 0.0, 0.0],
    ];
    let accuracy = Accuracy::of(&logits, &[0, 5, 2]);
    assert_eq!(
        (accuracy.top1, accuracy.top5, accuracy.images),
        (1.0 / 3.0, 2.0 / 3.0, 3)
    );
    let tail = |logits: [f64; 6]| logits.iter().map(|v| v.exp()).sum::<f64>().ln();
    let first = tail([3.0, 2.0, 1.0, 0.0, -1.0, -2.0]);
    let tied = tail([0.0, 9.0, 9.0, 0.0, 0.0, 0.0]) - 9.0;
    let expected = ((first - 3.0) + (first + 2.0) + tied) / 3.0;
    assert!(
        (accuracy.loss - expected).abs() < 1e-12,
        "{} {expected}",
        accuracy.loss
    );
}

#[test]
fn huge_logits_do_not_overflow_the_loss() {
    let accuracy = Accuracy::of(&array![[3e38, -3e38]], &[0]);
    assert_eq!(accuracy.loss, 0.0);
    assert!(Accuracy::of(&array![[3e38, -3e38]], &[1]).loss.is_finite());
}

#[test]
fn logits_and_figures_are_those_of_one_batch_for_any_number_of_threads() {
    let model = lenet();
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    let images = shapes(&model);
    // Not in order, and no multiple of a task's size.
    let indices: Vec<usize> = (0..101).map(|i| (i * 37) % 997).collect();
    let batch = images
        .batches(&indices, indices.len())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let expected = executor.run(batch.images).unwrap();
    for threads in [1, 2, 5] {
        let evaluation = in_pool(threads, || {
            evaluate(&executor, &images, &indices, &()).unwrap()
        });
        assert_eq!(evaluation.logits, expected);
        assert_eq!(evaluation.accuracy, Accuracy::of(&expected, &batch.labels));
    }
}

#[test]
fn the_first_image_with_logits_that_are_not_finite_is_named() {
    let model = lenet();
    let images = shapes(&model);
    let mean_of = |index: usize| {
        let batch = images
            .batches(&[index], 1)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        Means::mean(batch.images.index_axis(Axis(0), 0))
    };
    let nan = vec![mean_of(450), mean_of(77), mean_of(78)];
    let classifier = Means {
        graph: model.graph(),
        nan,
    };
    for threads in [1, 3] {
        let result = in_pool(threads, || {
            evaluate(&classifier, &images, &images.first(None), &())
        });
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("image 77 of the test split of shapes:"),
            "{error}"
        );
    }
}

#[test]
fn progress_counts_every_image_once() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl Progress for Log {
        fn begin(&self, stage: Stage, images: usize) {
            self.0
                .lock()
                .unwrap()
                .push(format!("{stage:?} of {images}"));
        }
        fn advance(&self, images: usize) {
            self.0.lock().unwrap().push(images.to_string());
        }
        fn end(&self) {
            self.0.lock().unwrap().push("end".to_owned());
        }
    }
    let model = lenet();
    let images = shapes(&model);
    let classifier = Means {
        graph: model.graph(),
        nan: vec![],
    };
    let log = Log::default();
    in_pool(2, || {
        evaluate(&classifier, &images, &images.first(Some(45)), &log)
    })
    .unwrap();
    let log = log.0.into_inner().unwrap();
    let (first, rest) = log.split_first().unwrap();
    let (last, counts) = rest.split_last().unwrap();
    assert_eq!((first.as_str(), last.as_str()), ("Evaluation of 45", "end"));
    assert_eq!(
        counts
            .iter()
            .map(|count| count.parse::<usize>().unwrap())
            .sum::<usize>(),
        45
    );
}

#[test]
fn nothing_to_evaluate_is_an_error() {
    let model = lenet();
    let classifier = Means {
        graph: model.graph(),
        nan: vec![],
    };
    assert!(matches!(
        evaluate(&classifier, &shapes(&model), &[], &()),
        Err(Error::NoImages)
    ));
}

#[test]
fn large_networks_take_one_image_at_a_time() {
    use addernet_graph::zoo::Architecture;
    let tasks = |architecture: Architecture| {
        images_per_task(
            &architecture
                .graph(architecture.default_input(), 10)
                .unwrap(),
        )
    };
    assert_eq!(
        (tasks(Architecture::ResNet20), tasks(Architecture::ResNet50)),
        (16, 1)
    );
}
