use super::*;

const NONE: [&str; 0] = [];

#[test]
fn every_built_in_recipe_is_valid_and_survives_toml() {
    for name in Recipe::built_in() {
        let recipe = Recipe::load(name, &NONE).unwrap();
        let text = recipe.to_toml().unwrap();
        assert_eq!(Recipe::parse(name, &text, &NONE).unwrap(), recipe, "{name}");
        assert!(Recipe::built_in_text(name).unwrap().starts_with('#'));
    }
}

#[test]
fn the_published_recipe_is_the_published_one() {
    let recipe = Recipe::load("cifar10", &NONE).unwrap();
    assert_eq!(recipe.architecture, Architecture::ResNet20);
    assert_eq!((recipe.epochs, recipe.batch), (400, 256));
    assert_eq!((recipe.momentum, recipe.weight_decay), (0.9, 5e-4));
    assert_eq!(
        (recipe.crop_padding, recipe.flip, recipe.eta),
        (4, true, 0.2)
    );
    // 0.05·(1 + cos(π·e/400)), whatever the step.
    for epoch in [0, 1, 200, 399] {
        let expected = 0.05 * (1.0 + (std::f64::consts::PI * epoch as f64 / 400.0).cos());
        for step in [0, 195] {
            let lr = recipe.learning_rate(epoch, step, 196);
            assert!((lr - expected).abs() < 1e-12, "{epoch} {step}: {lr}");
        }
    }
    let imagenet = Recipe::load("imagenet", &NONE).unwrap();
    assert_eq!(
        (imagenet.epochs, imagenet.lr, imagenet.weight_decay),
        (150, 0.1, 1e-4)
    );
}

#[test]
fn schedules_by_steps_and_warmups() {
    let recipe = |settings: &[&str]| Recipe::load("shapes", settings).unwrap();
    let steps = recipe(&[
        "epochs=2",
        "lr=1.0",
        "schedule=cosine-steps",
        "warmup-epochs=0",
    ]);
    assert_eq!(steps.learning_rate(0, 0, 10), 1.0);
    assert!((steps.learning_rate(1, 0, 10) - 0.5).abs() < 1e-12);
    assert!(steps.learning_rate(1, 9, 10) > 0.0);
    let warm = recipe(&["lr=1", "schedule=constant", "warmup-epochs=0.5"]);
    let rates: Vec<f64> = (0..6).map(|step| warm.learning_rate(0, step, 10)).collect();
    for (rate, expected) in rates.iter().zip([0.2, 0.4, 0.6, 0.8, 1.0, 1.0]) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?}");
    }
}

#[test]
fn overrides_replace_fields_and_say_what_is_wrong() {
    let recipe = Recipe::load(
        "cifar10",
        &["train_images=1000", "dataset=\"cifar100\"", "lr=1"],
    );
    let recipe = recipe.unwrap();
    assert_eq!(recipe.train_images, Some(1000));
    assert_eq!(recipe.dataset, DatasetKind::Cifar100);
    assert_eq!(recipe.lr, 1.0);
    for (setting, complaint) in [
        ("epochs=0", "`epochs` must be at least 1"),
        ("epochs=-3", "epochs"),
        ("lr=nan", "`lr` must be finite"),
        ("batch=1", "`batch` must be at least 2"),
        ("momentum=1", "`momentum` must be"),
        (
            "architecture=resnet21",
            "unknown architecture `resnet21`; known: lenet5-bn",
        ),
        ("colour=red", "unknown field `colour`"),
        ("epochs", "is not of the form key=value"),
        ("=3", "has no key"),
        ("dataset=imagenet", "imagenet"),
    ] {
        let error = Recipe::load("cifar10", &[setting]).unwrap_err().to_string();
        assert!(error.contains(complaint), "{setting}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = Recipe::load("nothing", &NONE).unwrap_err().to_string();
    assert!(error.contains("cifar10-short"), "{error}");
    let error = Recipe::parse("x.toml", "lr = ", &NONE).unwrap_err();
    assert!(error.to_string().starts_with("recipe x.toml: "), "{error}");
}

#[test]
fn sections_have_fields_of_their_own() {
    let recipe = Recipe::load("qat", &["qat.weight-bits=2", "qat.labels=0.5", "epochs=1"]).unwrap();
    let qat = recipe.qat.unwrap();
    assert_eq!((qat.weight_bits, qat.activation_bits), (2, 4));
    assert_eq!((qat.labels, recipe.epochs), (0.5, 1));
    // A recipe becomes one for quantization-aware training.
    let recipe = Recipe::load("shapes", &["qat.weight-bits=3", "qat.activation-bits=3"]).unwrap();
    assert_eq!(recipe.qat.unwrap().calibration_images, 2048);
    for (setting, expected) in [
        ("qat.weight-bits=1", "`qat.weight-bits` must be 2 to 8"),
        ("qat.labels=2", "`qat.labels` must be 0 to 1"),
        ("qat.mixup=2", "`qat.mixup` must be 0 to 1"),
        ("qat.temperature=0", "`qat.temperature` must be finite"),
        ("qat.speed=1", "unknown field `speed`"),
        ("epochs.weight-bits=1", "`weight-bits` has no fields"),
    ] {
        let error = Recipe::load("qat", &[setting]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let both = ["qat.mixup=0.5", "qat.labels=0.5"];
    let error = Recipe::load("qat", &both).unwrap_err().to_string();
    assert!(error.contains("images that are mixed have none"), "{error}");
}
