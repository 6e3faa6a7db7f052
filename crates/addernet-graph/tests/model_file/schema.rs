//! docs/format.schema.json says the same as the reader.

use std::path::Path;

use addernet_graph::ModelInfo;
use addernet_graph::file::ModelFile;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::{edited, model};

#[test]
fn written_metadata_follows_the_schema_and_wrong_metadata_does_not() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let document = |bytes: &[u8]| -> Value {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        serde_json::from_str(&header.metadata().as_ref().unwrap()["addernet"]).unwrap()
    };
    let good = document(&ModelFile::from(model()).to_bytes().unwrap());
    let errors: Vec<String> = schema.iter_errors(&good).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for architecture in addernet_graph::zoo::Architecture::ALL {
        let graph = architecture
            .graph(architecture.default_input(), architecture.default_classes())
            .unwrap();
        let file = ModelFile::new(graph, ModelInfo::default());
        let document = document(&file.to_bytes().unwrap());
        assert!(schema.is_valid(&document), "{architecture}");
    }

    // Whatever the schema refuses, the reader refuses too.
    let wrong: [fn(&mut Value); 20] = [
        |d| d["format_version"] = json!(2),
        |d| drop(d.as_object_mut().unwrap().remove("graph")),
        |d| drop(d.as_object_mut().unwrap().remove("info")),
        |d| d["graph"]["nodes"] = json!([]),
        |d| d["graph"]["author"] = json!("x"),
        |d| d["graph"]["input"]["height"] = json!(0),
        |d| d["graph"]["input"]["height"] = json!(1 << 21),
        |d| d["graph"]["nodes"][0]["type"] = json!("softmax"),
        |d| d["graph"]["nodes"][0]["kernel"] = json!([3]),
        |d| d["graph"]["nodes"][0]["stride"] = json!([0, 1]),
        |d| d["graph"]["nodes"][0]["dilation"] = json!(1),
        |d| d["graph"]["nodes"][0]["bias"] = json!(1),
        |d| d["graph"]["nodes"][0]["name"] = json!(""),
        |d| d["graph"]["nodes"][0]["name"] = json!("a\nb"),
        |d| d["graph"]["name"] = json!("x".repeat(257)),
        |d| d["graph"]["nodes"][0]["name"] = json!("input"),
        |d| d["graph"]["nodes"][3]["inputs"] = json!(["bn"]),
        |d| d["graph"]["nodes"][2]["eps"] = json!(0),
        |d| d["info"]["author"] = json!("x"),
        |d| d["info"]["preprocessing"]["std"] = json!([0, 1]),
    ];
    for (case, edit) in wrong.into_iter().enumerate() {
        let bytes = edited(edit);
        assert!(
            !schema.is_valid(&document(&bytes)),
            "the schema accepts case {case}"
        );
        let read = ModelFile::from_bytes(&bytes, Path::new("x")).and_then(ModelFile::into_model);
        assert!(read.is_err(), "the reader accepts case {case}");
    }
}
