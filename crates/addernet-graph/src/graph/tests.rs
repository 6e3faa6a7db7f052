use super::*;
use crate::op::PoolAttributes;

fn builder() -> GraphBuilder {
    GraphBuilder::new("g", FeatureShape::new(3, 8, 8))
}

fn conv(in_channels: usize, out_channels: usize) -> Op {
    Op::AdderConv(ConvAttributes::square(in_channels, out_channels, 3, 1, 1))
}

#[test]
fn errors_name_the_node_and_the_reason() {
    let cases: [(&str, Op, &[&str], &str); 13] = [
        ("", Op::Relu, &["input"], "must not be empty"),
        ("input", Op::Relu, &["input"], "already taken"),
        ("a", Op::Input, &[], "one input"),
        ("a", Op::Add, &["input"], "add takes 2 input(s), got 1"),
        ("a", Op::Relu, &["later"], "reads `later`"),
        (
            "a",
            conv(4, 5),
            &["input"],
            "expects 4 input channels, its input has 3",
        ),
        ("a", conv(3, 0), &["input"], "extent of 0"),
        ("a", conv(3, usize::MAX), &["input"], "extent of"),
        (
            "a",
            Op::BatchNorm {
                channels: 3,
                eps: f32::NAN,
            },
            &["input"],
            "eps",
        ),
        (
            "a",
            Op::AdderConv(ConvAttributes::square(3, 4, 3, 1, 1 << 18)),
            &["input"],
            "with its padding, its input is too large",
        ),
        (
            "a",
            Op::MaxPool(PoolAttributes::square(2, 2, 2)),
            &["input"],
            "more than half",
        ),
        (
            "a",
            Op::MaxPool(PoolAttributes::square(9, 1, 0)),
            &["input"],
            "larger than the padded",
        ),
        (
            "a",
            Op::Linear {
                in_features: 192,
                out_features: 2,
                bias: false,
            },
            &["input"],
            "put a flatten",
        ),
    ];
    for (name, op, inputs, reason) in cases {
        let error = builder().add(name, op, inputs).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("node `{name}`")) && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn unread_nodes_and_empty_graphs_are_errors() {
    assert!(
        builder()
            .build()
            .unwrap_err()
            .to_string()
            .contains("no node besides the input")
    );
    let mut b = builder();
    b.add("a", Op::Relu, &["input"]).unwrap();
    b.add("b", Op::Relu, &["input"]).unwrap();
    assert!(
        b.build()
            .unwrap_err()
            .to_string()
            .contains("no node reads `a`")
    );
}

#[test]
fn sums_of_different_shapes_are_errors() {
    let mut b = builder();
    b.add("a", conv(3, 4), &["input"]).unwrap();
    let error = b
        .add("sum", Op::Add, &["a", "input"])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "node `sum`: cannot add 8x8x4 and 8x8x3");
}

#[test]
fn non_negativity_follows_from_the_structure_even_of_many_shared_sums() {
    let mut b = builder();
    let mut x = b.add("relu", Op::Relu, &["input"]).unwrap();
    // 2^64 paths: only a per-node answer finishes.
    for i in 0..64 {
        x = b.add(format!("sum{i}"), Op::Add, &[&x, &x]).unwrap();
    }
    b.add("mixed", Op::Add, &[&x, "input"]).unwrap();
    let graph = b.build().unwrap();
    assert!(graph.node("sum63").unwrap().is_non_negative());
    assert!(!graph.output().is_non_negative());
}

#[test]
fn an_operation_can_be_replaced() {
    let mut b = builder();
    b.add("a", conv(3, 4), &["input"]).unwrap();
    let graph = b.build().unwrap();
    let with_bias = Op::AdderConv(ConvAttributes::square(3, 4, 3, 1, 1).with_bias());
    let changed = graph.with_op("a", with_bias).unwrap();
    assert_eq!(changed.parameters().count(), 2);
    assert!(graph.with_op("b", Op::Relu).is_err());
    assert!(graph.with_op("a", conv(7, 4)).is_err());
}

#[test]
fn descriptions_with_hostile_shapes_are_refused() {
    let json = r#"{"name":"g","input":{"channels":1,"height":1048577,"width":1},
        "nodes":[{"name":"a","inputs":["input"],"type":"relu"}]}"#;
    assert!(
        serde_json::from_str::<Graph>(json)
            .unwrap_err()
            .to_string()
            .contains("1048577")
    );
    let json = r#"{"name":"g","input":{"channels":1048576,"height":1048576,"width":1048576},
        "nodes":[{"name":"a","inputs":["input"],"type":"flatten"}]}"#;
    assert!(
        serde_json::from_str::<Graph>(json)
            .unwrap_err()
            .to_string()
            .contains("values")
    );
}
