use addernet_cost::EnergyModel;
use addernet_data::{DatasetKind, Split};

use super::*;
use crate::testing::lenet;

#[test]
fn methods_without_groups_are_in_the_grid_once() {
    let cells = grid(
        &MethodKind::ALL,
        &[[8, 8], [4, 4], [8, 8]],
        &[1, 2],
        &[0, 1],
    )
    .cells();
    let of = |method| cells.iter().filter(|c| c.method == method).count();
    assert_eq!(of(MethodKind::Redistribution), 8);
    assert_eq!(of(MethodKind::SharedScale), 4);
    let mut names: Vec<String> = cells.iter().map(SweepCell::name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cells.len());
}

#[test]
fn ablations_bits_and_calibrations_multiply_where_a_method_has_them() {
    let mut grid = grid(&MethodKind::ALL, &[[2, 4], [4, 4]], &[1], &[0]);
    grid.without = vec![None, Some(Ablation::Mixup), Some(Ablation::WeightClamp)];
    grid.calibrations = vec![32, 64];
    let cells = grid.cells();
    let of = |method| {
        let cells = cells.iter().filter(|c| c.method == method);
        let pairs = cells.map(|c| (c.bits, c.without));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.dedup();
        pairs
    };
    let mixup = Some(Ablation::Mixup);
    assert_eq!(
        of(MethodKind::Reconstruction),
        [
            ([2, 4], None),
            ([2, 4], mixup),
            ([4, 4], None),
            ([4, 4], mixup)
        ]
    );
    // One width for both, so that two pairs are one.
    let clamp = Some(Ablation::WeightClamp);
    let redistribution = of(MethodKind::Redistribution);
    assert_eq!(redistribution, [([4, 4], None), ([4, 4], clamp)]);
    assert_eq!(cells.len(), 2 * (4 + 2 + 2 + 1));
    let cell = cells.iter().find(|c| c.without == clamp).unwrap();
    let options = cell.options();
    assert_eq!(options.calibration_images, 32);
    assert_ne!(options.method, method_settings(cell.method, [4, 4], 1));
}

fn grid(methods: &[MethodKind], bits: &[[u8; 2]], groups: &[usize], seeds: &[u64]) -> SweepGrid {
    SweepGrid {
        methods: methods.to_vec(),
        bits: bits.to_vec(),
        groups: groups.to_vec(),
        without: vec![None],
        calibrations: vec![2048],
        seeds: seeds.to_vec(),
    }
}

fn accuracy(top1: f64) -> Accuracy {
    Accuracy {
        top1,
        top5: 1.0,
        loss: 0.5,
        images: 100,
    }
}

fn result(groups: usize, seed: u64, top1: f64, integer: bool) -> CellResult {
    let mut provenance = lenet_provenance();
    (provenance.groups, provenance.seed) = (groups, seed);
    CellResult {
        without: None,
        provenance,
        precision: None,
        without_bn_reestimation: CellAccuracy {
            simulated: accuracy(top1),
            integer: integer.then(|| accuracy(top1 - 0.01)),
            integer_refused: None,
        },
        with_bn_reestimation: None,
        quantize_seconds: 2.0,
        evaluate_seconds: 1.0,
    }
}

fn lenet_provenance() -> Provenance {
    Provenance {
        method: "redistribution".to_owned(),
        weight_bits: 4,
        activation_bits: 4,
        groups: 4,
        weight_clamp: true,
        outlier_quantile: 1.0,
        calibration_images: 10,
        bn_images: 0,
        seed: 0,
        reconstruction: None,
    }
}

#[test]
fn seeds_become_means_with_a_spread() {
    let results = [
        result(1, 0, 0.5, true),
        result(2, 0, 0.7, false),
        result(1, 1, 0.6, false),
    ];
    let table = SweepTable::of(accuracy(0.9), &results);
    assert_eq!(table.rows.len(), 2);
    let simulated = table.rows[0].figures(SweepEngine::Simulated, false);
    let Figures { seeds, top1, .. } = simulated.unwrap();
    assert_eq!((*seeds, top1.min, top1.max), (2, 0.5, 0.6));
    assert!((top1.mean - 0.55).abs() < 1e-12);
    let markdown = table.markdown();
    for line in [
        "| redistribution | 4 | 1 | 10 | 2 | – | – | 55.00 (50.00–60.00) | 49.00 | 3.0 | – | – | – | – |",
        "| redistribution | 4 | 2 | 10 | 1 | – | – | 70.00 | – | 3.0 | – | – | – | – |",
    ] {
        assert!(markdown.lines().any(|l| l == line), "{markdown}");
    }
    // The spread of two seeds, and none of one.
    let deviation = top1.standard_deviation.unwrap();
    assert!((deviation - 0.1 / 2f64.sqrt()).abs() < 1e-12);
    let csv = table.csv();
    assert_eq!(csv.lines().count(), 1 + 3);
    for cells in [
        ",2,0.550000,0.500000,0.600000,0.070711,",
        ",1,0.700000,0.700000,0.700000,,",
    ] {
        assert!(csv.contains(cells), "{csv}");
    }
    // Another ablation is another row.
    let mut ablated = results.clone();
    ablated[2].without = Some(Ablation::OutlierClamp);
    let table_of_three = SweepTable::of(accuracy(0.9), &ablated);
    assert_eq!(table_of_three.rows.len(), 3);
    let label = "redistribution without outlier-clamp";
    assert_eq!(table_of_three.rows[2].label(), label);
    assert!(
        table_of_three
            .csv()
            .contains("redistribution,outlier-clamp,4,4,1,10,")
    );
    assert!(!table_of_three.varies_in_images());
    // Nobody knows what these are made of; with costs, one row of two has them.
    assert!(
        table
            .csv()
            .lines()
            .skip(1)
            .all(|line| line.ends_with(",,,,"))
    );
    let graph = lenet().graph().clone();
    let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
    let mut known = results.clone();
    known[1].precision = Some(Precision::uniform(&graph, 4, 4, 2).unwrap());
    let table = table.with_costs(&graph, &known, &model).unwrap();
    assert!(table.rows[0].cost.is_none());
    let [arithmetic, total, cnn_arithmetic, cnn_total] = table.rows[1].cost.unwrap().microjoules();
    assert!(0.0 < arithmetic && arithmetic < total && arithmetic < cnn_arithmetic);
    assert!(total < cnn_total);
    let cells = format!("| {arithmetic:.3} | {total:.3} | {cnn_arithmetic:.3} | {cnn_total:.3} |");
    let markdown = table.markdown();
    assert!(markdown.lines().any(|l| l.ends_with(&cells)), "{markdown}");
    assert!(markdown.contains("horowitz-2014") && markdown.contains("In floating point"));
    // Redistribution re-estimates BN, but there are no such figures, nor of all seeds on integers.
    assert_eq!(
        table.rows[0].recommended().unwrap().engine,
        SweepEngine::Simulated
    );
    let json = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<SweepTable>(&json).unwrap(), table);
}

#[test]
fn a_cell_is_evaluated_on_both_engines() {
    let model = lenet();
    let open = |split| Images::open(&model, DatasetKind::Shapes, None, split, None).unwrap();
    let (training, evaluation) = (open(Split::Train), open(Split::Test));
    let context = SweepContext {
        model: &model,
        training: &training,
        evaluation: &evaluation,
        indices: &evaluation.first(Some(50)),
        kernel: addernet_kernels::select(None).unwrap(),
        kernel_u8: addernet_kernels::select_u8(None).unwrap(),
    };
    let cell = grid(&[MethodKind::Redistribution], &[[8, 8]], &[2], &[3]).cells()[0];
    let options = QuantizeOptions {
        calibration_images: 50,
        bn_images: 60,
        ..cell.options()
    };
    let (result, quantized) = context.run(&options, None, &()).unwrap();
    assert_eq!(&result.provenance, quantized.provenance());
    assert_eq!((result.provenance.groups, result.provenance.seed), (2, 3));
    let with = result.with_bn_reestimation.unwrap();
    assert_eq!(with.simulated.images, 50);
    assert!(with.integer.is_some() && with.integer_refused.is_none());
}
