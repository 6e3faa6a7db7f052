//! How values flow: which nodes are computed in one go, and what is stored between them.
//!
//! As in the integer engine (docs/INTEGER.md, "What becomes of sums"), a layer takes with it what follows as its
//! only reader: a BN, then an addition whose other operand is there already, then a ReLU.

use addernet_graph::{Graph, NodeId, Op};

/// The flow through a graph.
pub(crate) struct Flow {
    /// The nodes that read each node's values; flattening passes its readers on.
    pub(crate) readers: Vec<Vec<NodeId>>,
    /// The layer (convolution or linear) whose chain a node is in.
    pub(crate) head: Vec<Option<NodeId>>,
    /// The last node of a node's chain; itself where there is none.
    pub(crate) end: Vec<NodeId>,
    /// Whether the chain that ends here has an addition.
    pub(crate) adds: Vec<bool>,
    /// Where a node's values are: itself, but for flattening.
    pub(crate) source: Vec<NodeId>,
}

impl Flow {
    pub(crate) fn of(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let count = nodes.len();
        let mut source: Vec<NodeId> = (0..count).collect();
        for (id, node) in nodes.iter().enumerate() {
            if let (Op::Flatten, Some(&input)) = (node.op(), node.inputs().first()) {
                source[id] = source[input];
            }
        }
        let mut readers = vec![Vec::new(); count];
        for (id, node) in nodes.iter().enumerate() {
            if *node.op() != Op::Flatten {
                node.inputs()
                    .iter()
                    .for_each(|&input| readers[source[input]].push(id));
            }
        }
        let mut flow = Self {
            readers,
            head: vec![None; count],
            end: (0..count).collect(),
            adds: vec![false; count],
            source,
        };
        for (id, node) in nodes.iter().enumerate() {
            if is_layer(node.op()) {
                flow.follow(graph, id);
            }
        }
        flow
    }

    /// Takes what follows layer `id` into its chain.
    fn follow(&mut self, graph: &Graph, id: NodeId) {
        let nodes = graph.nodes();
        let mut chain = vec![id];
        let (mut last, mut adds) = (id, false);
        while let [next] = self.readers[last][..] {
            // A flattened map is another map.
            if !nodes[next].inputs().contains(&last) || self.head[next].is_some() {
                break;
            }
            match nodes[next].op() {
                Op::BatchNorm { .. } if last == id => {}
                Op::Add if !adds && !matches!(nodes[last].op(), Op::Relu) => {
                    let other = nodes[next].inputs().iter().find(|&&input| input != last);
                    // What the addition also reads must be there before this layer runs.
                    if other.is_none_or(|&other| self.end[self.source[other]] >= id) {
                        break;
                    }
                    adds = true;
                }
                Op::Relu if !matches!(nodes[last].op(), Op::Relu) => {}
                _ => break,
            }
            last = next;
            chain.push(next);
        }
        for &member in &chain {
            self.head[member] = Some(id);
            self.end[member] = last;
        }
        self.adds[last] = adds;
    }

    /// Whether values of node `id` leave the chain: they are stored.
    pub(crate) fn is_stored(&self, id: NodeId) -> bool {
        self.end[id] == id && self.source[id] == id
    }
}

/// Whether the operation is a layer with taps.
pub(crate) fn is_layer(op: &Op) -> bool {
    matches!(op, Op::AdderConv(_) | Op::Conv(_) | Op::Linear { .. })
}
