use super::*;
use crate::error::CostError;
use crate::work::Part;
use proptest::prelude::*;

fn horowitz() -> EnergyModel {
    EnergyModel::named(EnergyModel::DEFAULT).unwrap()
}

fn work(operation: Operation, number: Number, bits: [u32; 2]) -> Work {
    Work {
        part: Part::Taps,
        operation,
        number,
        bits,
        count: 1,
    }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn built_in_models_have_the_published_figures() {
    for name in EnergyModel::BUILT_IN {
        let model = EnergyModel::named(name).unwrap();
        assert_eq!(model.name(), name);
        assert!(model.source().contains("ISSCC 2014"));
        let price = |operation, number, bits| model.operation(&work(operation, number, [bits; 2]));
        close(price(Operation::Add, Number::Float, 32), 0.9);
        close(price(Operation::Multiply, Number::Float, 32), 3.7);
        close(price(Operation::Add, Number::Integer, 8), 0.03);
        close(price(Operation::Multiply, Number::Integer, 8), 0.2);
        close(price(Operation::Add, Number::Integer, 32), 0.1);
        close(price(Operation::Multiply, Number::Integer, 32), 3.1);
        close(price(Operation::Accumulate, Number::Float, 32), 0.9);
        close(price(Operation::Compare, Number::Float, 32), 0.1);
        let access: Vec<f64> = model.memory().iter().map(|level| level.access).collect();
        assert_eq!(access, [10.0, 20.0, 100.0, 1300.0]);
    }
}

#[test]
fn other_widths_follow_the_laws() {
    let model = horowitz();
    let price = |operation, bits| model.operation(&work(operation, Number::Integer, bits));
    // Adders: linear.
    close(price(Operation::Add, [4, 4]), 0.015);
    close(price(Operation::Add, [20, 20]), (0.03 + 0.1) / 2.0);
    close(price(Operation::Add, [64, 64]), 0.2);
    // Multipliers: quadratic, in the product of both widths where these differ.
    close(price(Operation::Multiply, [4, 4]), 0.05);
    close(price(Operation::Multiply, [2, 8]), 0.05);
    close(price(Operation::Multiply, [64, 64]), 4.0 * 3.1);
    let between = 256.0 * (2.0 / 3.0 * 0.2 / 64.0 + 1.0 / 3.0 * 3.1 / 1024.0);
    close(price(Operation::Multiply, [16, 16]), between);
    // A sum of 4-bit terms that needs 12 bits.
    let sum = work(Operation::Accumulate, Number::Integer, [12, 4]);
    close(model.operation(&sum), 0.015);
    let exact = EnergyModel::named("horowitz-2014-exact").unwrap();
    close(exact.operation(&sum), 0.03 + 4.0 / 24.0 * 0.07);
}

#[test]
fn numbers_are_kept_in_the_smallest_memory_that_holds_them() {
    let model = horowitz();
    for (bytes, name) in [
        (0, "8 KiB SRAM"),
        (8192, "8 KiB SRAM"),
        (8193, "32 KiB SRAM"),
        (1 << 20, "1 MiB SRAM"),
        (u64::MAX, "DRAM"),
    ] {
        assert_eq!(model.level(bytes).name, name, "{bytes}");
    }
}

/// The default model with one line changed, and why it is refused.
fn refused(line: &str, by: &str) -> String {
    let text = EnergyModel::built_in_toml(EnergyModel::DEFAULT).unwrap();
    assert!(text.contains(line), "{line}");
    let message = EnergyModel::from_toml(&text.replacen(line, by, 1), "my.toml")
        .unwrap_err()
        .to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("my.toml: "), "{message}");
    message
}

#[test]
fn refusals_name_file_field_and_remedy() {
    for (line, by, expected) in [
        (
            "8 = 0.03",
            "8 = -0.03",
            "`integer.add.8`: must be pJ above 0",
        ),
        ("8 = 0.03", "8 = nan", "`integer.add.8`: must be pJ above 0"),
        ("8 = 0.03", "8 = 0", "`integer.add.8`: must be pJ above 0"),
        (
            "32 = 3.1",
            "32 = 1e300",
            "`integer.multiply.32`: must be pJ",
        ),
        (
            "16 = 0.4",
            "0 = 0.4",
            "`float.add.0`: the name must be a width",
        ),
        (
            "16 = 0.4",
            "16bit = 0.4",
            "`float.add.16bit`: the name must be a width",
        ),
        (
            "16 = 0.4",
            "032 = 0.4",
            "`float.add.032`: the name must be a width",
        ),
        ("8 = 0.03\n32 = 0.1", "", "`integer.add`: it is empty"),
        (
            "bytes = 32768",
            "bytes = 8192",
            "`memory[1].bytes`: must be more than 8192",
        ),
        (
            "bytes = 8192\n",
            "",
            "`memory[0].bytes`: must be more than 0, got nothing",
        ),
        (
            "access = 1300.0",
            "access = 1300.0\nbytes = 99999999",
            "`memory[3].bytes`: the last",
        ),
        (
            "access = 20.0",
            "access = inf",
            "`memory[1].access`: must be pJ",
        ),
        (
            "name = \"horowitz-2014\"",
            "name = \"\"",
            "`name`: it is empty",
        ),
        (
            "source = \"",
            "source = \"a\\nb",
            "`source`: it must be one line",
        ),
        (
            "= \"operands\"",
            "= \"both\"",
            "line 8: unknown variant `both`",
        ),
        ("accumulate-at", "accumulate", "unknown field `accumulate`"),
        (
            "[float.multiply]",
            "[float.divide]",
            "unknown field `divide`",
        ),
        ("8 = 0.03", "8 = \"much\"", "line 12: invalid type"),
        ("8 = 0.03", "8 = ", "line 12:"),
        ("32 = 0.1", "8 = 0.1", "duplicate key"),
    ] {
        let message = refused(line, by);
        assert!(message.contains(expected), "{by}: {message}");
    }
    let message = EnergyModel::from_toml("", "my.toml")
        .unwrap_err()
        .to_string();
    assert!(message.contains("missing field `name`"), "{message}");
    assert!(message.contains("docs/ENERGY.md"), "{message}");
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.toml");
    let error = |path: &std::path::Path| {
        let message = EnergyModel::load(path).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        message
    };
    assert!(error(&path).contains("built-in"));
    error(folder.path());
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    assert!(error(&path).contains("UTF-8"));
    std::fs::write(&path, vec![b'#'; 300 * 1024]).unwrap();
    assert!(error(&path).contains("256 KiB"));
    std::fs::write(&path, "[".repeat(100_000)).unwrap();
    error(&path);
    std::fs::write(&path, format!("a = {}1", "[".repeat(50_000))).unwrap();
    error(&path);
    let text = EnergyModel::built_in_toml("horowitz-2014").unwrap();
    std::fs::write(&path, text).unwrap();
    assert_eq!(EnergyModel::load(&path).unwrap(), horowitz());
}

#[test]
fn energies_are_read_and_written_with_units() {
    for (text, picojoules) in [
        ("1.5uJ", 1.5e6),
        (" 1.5 µJ ", 1.5e6),
        ("1.5 \u{3bc}J", 1.5e6),
        ("940nJ", 940e3),
        ("7e3 pJ", 7e3),
        ("0.02mJ", 2e7),
        ("1e-6J", 1e6),
        ("0pJ", 0.0),
    ] {
        close(text.parse::<Energy>().unwrap().picojoules(), picojoules);
    }
    for text in [
        "", "1.5", "uJ", "-1uJ", "nanpJ", "infJ", "1e300 J", "1.5 kWh", "1,5uJ", "1.5uJ\n2",
    ] {
        let error = text.parse::<Energy>().unwrap_err();
        assert!(matches!(error, CostError::Energy { .. }));
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(error.to_string().contains("1.5uJ"), "{error}");
    }
    let shown = [0.0, 0.5, 999.6, 1.5e6, 74.7e6, 187.6e6, 2e12]
        .map(|pj| Energy::from_picojoules(pj).to_string());
    assert_eq!(
        shown,
        [
            "0.00 pJ", "0.50 pJ", "1.00 nJ", "1.50 µJ", "74.7 µJ", "188 µJ", "2.00 J"
        ]
    );
}

proptest! {
    #[test]
    fn any_text_is_a_model_or_an_error_of_one_line(text in "\\PC*") {
        if let Err(error) = EnergyModel::from_toml(&text, "x") {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        if let Err(error) = text.parse::<Energy>() {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn more_bits_never_cost_less(a in 1u32..80, b in 1u32..80) {
        let model = horowitz();
        for operation in [Operation::Add, Operation::Compare, Operation::Multiply, Operation::Accumulate] {
            let price = |bits| model.operation(&work(operation, Number::Integer, bits));
            prop_assert!(price([a, b]) > 0.0);
            prop_assert!(price([a + 1, b + 1]) > price([a, b]));
        }
    }
}
