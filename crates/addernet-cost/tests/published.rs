//! Counts of the zoo's networks, derived by hand from the papers' descriptions, beside published figures.
//!
//! A layer has (output height · width · channels) sums of (input channels · kernel height · width) terms.
//! Stride, padding and the ImageNet networks' 224x224 images are as published; every padded tap counts.

#![allow(clippy::unwrap_used, reason = "test code")]

use addernet_cost::{
    AdderForm, Counts, EnergyModel, Network, NetworkWork, Part, Precision, compare, count,
};
use addernet_graph::Graph;
use addernet_graph::zoo::Architecture;

fn graph(architecture: Architecture) -> Graph {
    let (input, classes) = (architecture.default_input(), architecture.default_classes());
    architecture.graph(input, classes).unwrap()
}

fn float(architecture: Architecture, network: Network) -> NetworkWork {
    count(
        &graph(architecture),
        &Precision::Float,
        network,
        AdderForm::Difference,
    )
    .unwrap()
}

/// Checks the terms of both networks: `ordinary` are those of the first convolution and the classifier, `adder` those
/// of all other layers.
fn check(architecture: Architecture, ordinary: u64, adder: u64) {
    // A CNN multiplies and adds every term.
    let cnn = float(architecture, Network::Cnn).taps;
    let expected = Counts {
        additions: ordinary + adder,
        multiplications: ordinary + adder,
        comparisons: 0,
    };
    assert_eq!(cnn, expected, "{architecture} as a CNN");
    // An AdderNet subtracts and adds; only the ordinary layers multiply.
    let expected = Counts {
        additions: ordinary + 2 * adder,
        multiplications: ordinary,
        comparisons: 0,
    };
    let found = float(architecture, Network::Adder).taps;
    assert_eq!(found, expected, "{architecture}");
    // The same terms at any width, whatever else integers need.
    let graph = graph(architecture);
    let precision = Precision::uniform(&graph, 4, 4, 4).unwrap();
    let integers = count(&graph, &precision, Network::Adder, AdderForm::Difference).unwrap();
    assert_eq!(integers.taps, expected, "{architecture} at 4 bits");
}

#[test]
fn lenet5_bn() {
    // conv1: 28x28x6 sums (32 − 5 + 1 = 28) of 1·5·5 terms:       4,704 · 25  = 117,600
    // fc2: 10 sums of 84 terms:                                                     840
    let ordinary = 117_600 + 840;
    // conv2: 10x10x16 (28 / 2 − 5 + 1) of 6·25:                   1,600 · 150 = 240,000
    // conv3: 1x1x120 (10 / 2 − 5 + 1) of 16·25:                     120 · 400 =  48,000
    // fc1: 84 of 120:                                                            10,080
    let adder = 240_000 + 48_000 + 10_080;
    check(Architecture::LeNet5Bn, ordinary, adder);
}

#[test]
fn vgg_small() {
    // conv1: 32x32x128 sums of 3·9 terms:                       131,072 · 27    =   3,538,944
    // fc: 10 of 4·4·512:                                             10 · 8,192 =      81,920
    let ordinary = 3_538_944 + 81_920;
    // conv2: 32x32x128 of 128·9:                                131,072 · 1,152 = 150,994,944
    // conv3: 16x16x256 of 128·9:                                 65,536 · 1,152 =  75,497,472
    // conv4: 16x16x256 of 256·9:                                 65,536 · 2,304 = 150,994,944
    // conv5: 8x8x512 of 256·9:                                   32,768 · 2,304 =  75,497,472
    // conv6: 8x8x512 of 512·9:                                   32,768 · 4,608 = 150,994,944
    let adder = 150_994_944 + 75_497_472 + 150_994_944 + 75_497_472 + 150_994_944;
    assert_eq!(adder, 603_979_776);
    check(Architecture::VggSmall, ordinary, adder);
}

/// Stem 32x32x16 of 3·9 = 442,368 and classifier 10 of 64 = 640.
const RESNET_CIFAR_ORDINARY: u64 = 442_368 + 640;

#[test]
fn resnet20() {
    // A 3x3 layer within a stage: 32x32x16 of 16·9 = 16x16x32 of 32·9 = 8x8x64 of 64·9 = 2,359,296.
    // Three stages of 6 such layers, but the first of stages 2 and 3 has half the input channels: 17 in all.
    //                                                                 17 · 2,359,296 = 40,108,032
    // Two 1x1 shortcuts: 16x16x32 of 16 = 8x8x64 of 32 = 131,072:                         262,144
    let adder = 40_108_032 + 262_144;
    check(Architecture::ResNet20, RESNET_CIFAR_ORDINARY, adder);
    // Chen et al. 2020 have 41.17M, and for the AdderNet 0.45M multiplications and 81.89M additions: 0.9% more.
    // docs/ENERGY.md says why.
    let cnn = float(Architecture::ResNet20, Network::Cnn).taps;
    assert_eq!(cnn.multiplications, 40_813_184);
    assert!((cnn.multiplications as f64 / 41.17e6 - 1.0).abs() < 0.01);
    let found = float(Architecture::ResNet20, Network::Adder).taps;
    assert_eq!(found.additions, 81_183_360);
    assert!((found.additions as f64 / 81.89e6 - 1.0).abs() < 0.01);
}

#[test]
fn resnet32() {
    // As ResNet-20 with 10 layers per stage instead of 6: 29 · 2,359,296 = 68,419,584.
    let adder = 68_419_584 + 262_144;
    check(Architecture::ResNet32, RESNET_CIFAR_ORDINARY, adder);
    // Published: 69.12M, and for the AdderNet 137.79M additions.
    let cnn = float(Architecture::ResNet32, Network::Cnn).taps;
    assert_eq!((cnn.multiplications as f64 / 1e4).round(), 6912.0);
    let found = float(Architecture::ResNet32, Network::Adder).taps;
    assert!((found.additions as f64 / 137.79e6 - 1.0).abs() < 2e-4);
}

/// 7x7 stem at stride 2: 112x112x64 sums of 3·49 terms.
const IMAGENET_STEM: u64 = 118_013_952;

#[test]
fn resnet18() {
    // Classifier: 1,000 of 512.
    let ordinary = IMAGENET_STEM + 512_000;
    // A 3x3 layer within a stage: 56x56x64 of 64·9 = … = 7x7x512 of 512·9 = 115,605,504.
    // Stage 1: four.                                                      462,422,016
    // Stages 2 to 4, each: half a layer (half the input channels), three layers, and a 1x1 shortcut
    // 28x28x128 of 64 = 6,422,528:   57,802,752 + 346,816,512 + 6,422,528 = 411,041,792
    let adder = 462_422_016 + 3 * 411_041_792;
    assert_eq!(adder, 1_695_547_392);
    check(Architecture::ResNet18, ordinary, adder);
    // Published: 1.8G.
    assert_eq!(((ordinary + adder) as f64 / 1e8).round(), 18.0);
}

#[test]
fn resnet50() {
    // Classifier: 1,000 of 2,048.
    let ordinary = IMAGENET_STEM + 2_048_000;
    // Later block of a stage: 1x1 down 56x56x64 of 256 = 51,380,224, 3x3 115,605,504, 1x1 up 51,380,224.
    let later = 218_365_952;
    // First block of stage 1: its input has 64 channels (56x56x64 of 64 = 12,845,056); 3x3; 1x1 up; and a 1x1
    // shortcut 56x56x256 of 64 = 51,380,224.
    let first = 12_845_056 + 115_605_504 + 51_380_224 + 51_380_224;
    // First block of stages 2 to 4, the stride being on its 3x3 layer: 1x1 down at the old size 56x56x128 of 256 =
    // 102,760,448; 3x3 115,605,504; 1x1 up 51,380,224; shortcut 28x28x512 of 256 = 102,760,448.
    let strided = 372_506_624;
    // 3, 4, 6 and 3 blocks.
    let adder = (first + 2 * later) + 3 * strided + (3 + 5 + 2) * later;
    assert_eq!(adder, 3_969_122_304);
    check(Architecture::ResNet50, ordinary, adder);
}

#[test]
fn energies_of_resnet20_are_the_published_ones() {
    // With 41.17M terms: 41.17M · (3.7 + 0.9) = 189 µJ, 0.45M · 3.7 + 81.89M · 0.9 = 75 µJ; in 8 bits 41.17M · 0.23 =
    // 9.5 µJ and 0.45M · 0.2 + 81.89M · 0.03 = 2.5 to 2.6 µJ. Here with 40.81M terms.
    let graph = graph(Architecture::ResNet20);
    let model = EnergyModel::named("horowitz-2014").unwrap();
    let taps = |precision: &Precision| {
        let cost = compare(&graph, precision, &model, AdderForm::Difference).unwrap();
        [cost.cnn, cost.adder].map(|cost| cost.energy.taps.microjoules())
    };
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found}");
    let [cnn, adder] = taps(&Precision::Float);
    near(cnn, 40.813184 * 4.6);
    near(adder, 0.443008 * 4.6 + 2.0 * 40.370176 * 0.9);
    assert!((cnn - 189.0).abs() < 2.0 && (adder - 75.0).abs() < 1.0);
    let [cnn, adder] = taps(&Precision::uniform(&graph, 8, 8, 1).unwrap());
    assert!(
        (cnn - 9.5).abs() < 0.15 && (adder - 2.6).abs() < 0.1,
        "{cnn} {adder}"
    );
    // Half the bits: half an adder, a quarter of a multiplier, in the adder layers; the classifier's 640 terms have
    // 16-bit activations.
    let [cnn, adder] = taps(&Precision::uniform(&graph, 4, 4, 1).unwrap());
    assert!((adder - (0.442368 * 0.23 + 2.0 * 40.370176 * 0.015)).abs() < 1e-3);
    assert!((cnn - (0.442368 * 0.23 + 40.370176 * (0.2 / 4.0 + 0.015))).abs() < 1e-3);
}

/// Operations of ResNet-20 for one purpose.
fn part(work: &NetworkWork, part: Part) -> Counts {
    let of_part = work.nodes.iter().flat_map(|node| &node.work);
    Counts::of(of_part.filter(|work| work.part == part))
}

/// Values of a map in each stage of ResNet-20.
const STAGES: [u64; 3] = [32 * 32 * 16, 16 * 16 * 32, 8 * 8 * 64];

#[test]
fn what_integers_need_besides_the_terms() {
    let graph = graph(Architecture::ResNet20);
    let counted = |groups, network, form| {
        let precision = Precision::uniform(&graph, 4, 4, groups).unwrap();
        count(&graph, &precision, network, form).unwrap()
    };
    let one = counted(1, Network::Adder, AdderForm::Difference);
    let [a, b, c] = STAGES;
    // A product and an addition per sum: stem; 6 layers per stage, with shortcut 7 in stages 2 and 3; 10 logits.
    let sums = a + 6 * a + 7 * b + 7 * c + 10;
    let rescale = part(&one, Part::Rescale);
    assert_eq!((rescale.multiplications, rescale.additions), (sums, sums));
    // A block's second layer gets its codes from the first one's sums at once: only their clamp is left. Its first
    // layer and its shortcut read the codes of a map.
    let direct = 3 * a + 3 * b + 3 * c;
    let maps = 3 * a + (a + 2 * b) + (b + 2 * c);
    let requantize = part(&one, Part::Requantize);
    assert_eq!(requantize.multiplications, maps);
    assert_eq!(requantize.additions, maps);
    assert_eq!(requantize.comparisons, 2 * (direct + maps));
    // As a CNN, too.
    let cnn = counted(1, Network::Cnn, AdderForm::Difference);
    assert_eq!(part(&cnn, Part::Requantize), requantize);
    // Four scales: four times the codes of every layer, none of them from sums at once; three of the
    // shortcuts' scales are their own.
    let four = counted(4, Network::Adder, AdderForm::Difference);
    let four = part(&four, Part::Requantize).multiplications;
    assert_eq!(four, 4 * (direct + maps) + 3 * (a + b));
    // Where every layer has a scale of its own, so have the shortcuts.
    let names = graph
        .adder_nodes()
        .map(|(_, node, _)| node.name().to_owned());
    let bits = names.map(|name| (name, [4, 4])).collect();
    let own = Precision::per_layer(&graph, &bits, 1).unwrap();
    let own = count(&graph, &own, Network::Adder, AdderForm::Difference).unwrap();
    assert_eq!(part(&own, Part::Requantize).multiplications, maps + a + b);
    // ReLU behind the stem and every block; additions in nine blocks; means of 64 places.
    assert_eq!(part(&one, Part::Relu).comparisons, a + direct);
    assert_eq!(part(&one, Part::Residual).additions, direct);
    let pooling = part(&one, Part::Pooling);
    assert_eq!(
        (pooling.additions, pooling.multiplications),
        (64 * 63 + 64, 64)
    );
    // As maxima: a comparison for each subtraction, and the box filter.
    let maximum = counted(1, Network::Adder, AdderForm::Maximum);
    assert_eq!(maximum.taps.comparisons, 40_370_176);
    assert_eq!(maximum.taps.additions, 443_008 + 40_370_176);
    let box_filter = part(&maximum, Part::BoxFilter).additions;
    // Per layer, 3x3 at stride 1: channels − 1 per place; 2 along each row of the padded map and 2 down; 1 per sum.
    let same = |size: u64, channels: u64| {
        let places = size * size;
        (channels - 1) * places + 2 * (size + 2) * size + 2 * places + places * channels
    };
    // At stride 2: all rows that windows read, 2·(size − 1) + 3, at half the columns.
    let strided = |size: u64, channels: u64| {
        let places = size * size;
        (channels - 1) * 4 * places
            + 2 * (2 * (size - 1) + 3) * size
            + 2 * places
            + places * 2 * channels
    };
    let shortcut =
        |size: u64, channels: u64| (channels - 1) * 4 * size * size + 2 * channels * size * size;
    let expected = 6 * same(32, 16)
        + strided(16, 16)
        + shortcut(16, 16)
        + 5 * same(16, 32)
        + strided(8, 32)
        + shortcut(8, 32)
        + 5 * same(8, 64);
    assert_eq!(box_filter, expected);
}

#[test]
fn bytes_of_resnet20() {
    let graph = graph(Architecture::ResNet20);
    // 432 + 17 layers of the three stages + shortcuts + classifier, as in He et al. 2016 with 1x1 shortcuts.
    let adder = 6 * 2304 + (4608 + 5 * 9216 + 512) + (18432 + 5 * 36864 + 2048);
    let ordinary = 432 + 640;
    let float = float(Architecture::ResNet20, Network::Adder);
    assert_eq!(float.memory.weight_bytes, 4 * (adder + ordinary));
    // Factor and offset of a BN behind an adder layer, the offset alone behind the stem and the classifier.
    let channels = 6 * 16 + 7 * 32 + 7 * 64;
    assert_eq!(float.memory.constant_bytes, 4 * (2 * channels + 16 + 10));
    let precision = Precision::uniform(&graph, 4, 4, 1).unwrap();
    let four = count(&graph, &precision, Network::Adder, AdderForm::Difference).unwrap();
    assert_eq!(four.memory.weight_bytes, adder / 2 + ordinary);
    // Most is alive in the first stage: a block's second layer reads 4-bit codes and the block's 16-bit input, and
    // writes a 16-bit map and, for the next layer, 4-bit codes.
    let a = STAGES[0];
    assert!(four.peak_activation_bytes >= a / 2 + 2 * a + 2 * a + a / 2);
    assert!(four.peak_activation_bytes <= a / 2 + 2 * a + 2 * a + 2 * (a / 2));
    // In float: the map and the block's input are read, the next block's input is written.
    assert_eq!(float.peak_activation_bytes, 3 * 4 * a);
}
