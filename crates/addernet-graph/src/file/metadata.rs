//! The JSON document in a model file's header.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::GraphError;
use crate::graph::{Graph, GraphDescription};
use crate::model::ModelInfo;

/// Key of the document in the safetensors metadata.
pub const METADATA_KEY: &str = "addernet";
/// Version of the format that this crate writes, and the highest that it reads.
pub const FORMAT_VERSION: u64 = 1;

/// Longest name of a node or a graph, in characters.
const MAX_NAME: usize = 256;
/// Keys of the document that are not extensions.
const VERSION: &str = "format_version";
const GRAPH: &str = "graph";
const INFO: &str = "info";

/// The document's parts.
pub(super) struct Document {
    pub(super) graph: Graph,
    pub(super) info: ModelInfo,
    pub(super) extensions: Map<String, Value>,
}

/// Why a document is refused.
pub(super) enum Refusal {
    /// The JSON is not what the format prescribes.
    Document(String),
    /// The graph it describes is not valid.
    Graph(GraphError),
}

#[derive(Serialize)]
struct Written<'a> {
    format_version: u64,
    graph: &'a Graph,
    info: &'a ModelInfo,
    #[serde(flatten)]
    extensions: &'a Map<String, Value>,
}

/// The document as text, or what hinders it from being read back.
pub(super) fn to_text(
    graph: &Graph,
    info: &ModelInfo,
    extensions: &Map<String, Value>,
) -> Result<String, String> {
    if let Some(key) = [VERSION, GRAPH, INFO]
        .iter()
        .find(|key| extensions.contains_key(**key))
    {
        return Err(format!("an extension must not be named `{key}`"));
    }
    let text = serde_json::to_string(&Written {
        format_version: FORMAT_VERSION,
        graph,
        info,
        extensions,
    })
    .map_err(|error| format!("its metadata has no JSON form: {error}"))?;
    // JSON has no NaN: what was written must also be readable.
    match from_text(&text) {
        Ok(_) => Ok(text),
        Err(Refusal::Document(reason)) => Err(reason),
        Err(Refusal::Graph(error)) => Err(error.to_string()),
    }
}

/// Parses and validates the document.
pub(super) fn from_text(text: &str) -> Result<Document, Refusal> {
    let refuse = |reason: String| Refusal::Document(reason);
    let mut document: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        refuse(format!(
            "its `{METADATA_KEY}` metadata is not valid JSON: {error}"
        ))
    })?;
    let version = document.remove(VERSION).ok_or_else(|| missing(VERSION))?;
    match version.as_u64() {
        Some(version) if (1..=FORMAT_VERSION).contains(&version) => {}
        _ => {
            return Err(refuse(format!(
                "has format version {version}, this program reads 1 to {FORMAT_VERSION}; use a newer \
                 program or write the file again"
            )));
        }
    }
    let graph: GraphDescription = part(&mut document, GRAPH)?;
    check_names(&graph).map_err(refuse)?;
    let graph = Graph::try_from(graph).map_err(Refusal::Graph)?;
    let info = part(&mut document, INFO)?;
    Ok(Document {
        graph,
        info,
        extensions: document,
    })
}

fn part<T: for<'de> Deserialize<'de>>(
    document: &mut Map<String, Value>,
    key: &str,
) -> Result<T, Refusal> {
    let value = document.remove(key).ok_or_else(|| missing(key))?;
    serde_json::from_value(value).map_err(|error| {
        Refusal::Document(format!(
            "`{key}` in its `{METADATA_KEY}` metadata is not valid: {error}"
        ))
    })
}

/// Names appear in messages: each must fit on a line.
fn check_names(graph: &GraphDescription) -> Result<(), String> {
    let nodes = graph
        .nodes
        .iter()
        .flat_map(|node| node.inputs.iter().chain([&node.name]));
    for name in nodes.chain([&graph.name]) {
        if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(format!(
                "the name `{name}` in its graph is longer than {MAX_NAME} characters or holds control \
                 characters"
            ));
        }
    }
    Ok(())
}

fn missing(key: &str) -> Refusal {
    Refusal::Document(format!(
        "its `{METADATA_KEY}` metadata lacks `{key}`: it is damaged"
    ))
}
