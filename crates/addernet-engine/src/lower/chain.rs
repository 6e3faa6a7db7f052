//! Which nodes are computed together with the layer before them.

use addernet_graph::{Node, NodeId, Op};

use super::bn::BatchNorm;
use super::{Affines, Lowering};
use crate::error::EngineError;
use crate::headroom::LayerHeadroom;
use crate::program::*;

/// A layer with what follows it: BN, the addition of a residual, a ReLU.
pub(super) struct Chain {
    /// The node whose value comes out.
    pub(super) last: NodeId,
    pub(super) bn: Option<BatchNorm>,
    residual: Option<MapId>,
    pub(super) relu: bool,
}

impl<'m> Lowering<'m> {
    /// Follows node `id` while nothing else reads its output. A residual is added only if
    /// `residuals` says so and the other operand has been computed already.
    pub(super) fn chain(&mut self, id: NodeId, residuals: bool) -> Result<Chain, EngineError> {
        let mut chain = Chain {
            last: id,
            bn: None,
            residual: None,
            relu: false,
        };
        self.done[id] = true;
        if let Some((next, node)) = self.only_reader(chain.last)
            && let Op::BatchNorm { eps, .. } = node.op()
        {
            chain.bn = Some(BatchNorm::of(self.model, node, *eps)?);
            self.follow(&mut chain, next);
        }
        if let Some((next, node)) = self.only_reader(chain.last)
            && *node.op() == Op::Add
            && residuals
        {
            let other = node.inputs().iter().find(|&&input| input != chain.last);
            if let Some(residual) = other.and_then(|&other| self.map_of[other]) {
                chain.residual = Some(residual);
                self.follow(&mut chain, next);
            }
        }
        if let Some((next, node)) = self.only_reader(chain.last)
            && *node.op() == Op::Relu
        {
            chain.relu = true;
            self.follow(&mut chain, next);
        }
        Ok(chain)
    }

    fn only_reader(&self, id: NodeId) -> Option<(NodeId, &'m Node)> {
        match self.readers[id].as_slice() {
            [reader] => Some((*reader, &self.graph.nodes()[*reader])),
            _ => None,
        }
    }

    fn follow(&mut self, chain: &mut Chain, next: NodeId) {
        chain.last = next;
        self.done[next] = true;
    }

    /// What becomes of the i32 sums of `node`, and the layer's entry in the list of headrooms.
    pub(super) fn finish_sums(
        &mut self,
        node: &Node,
        taps: usize,
        mut affines: Affines,
        chain: Chain,
    ) -> Result<Finish, EngineError> {
        if let Some(bn) = &chain.bn {
            affines.then(bn);
        }
        let last = chain.last;
        // A ReLU cuts off codes below that of zero; at code 0 the codes' own range does it.
        let cuts = chain.relu && self.requests[last].iter().any(|request| request.min < 0);
        let mapped = self.needs_map(last) || chain.residual.is_some() || cuts;
        let (finish, product) = match self.requests[last].as_slice() {
            [request] if !mapped => {
                let zero = -f64::from(request.min);
                let (scales, product) = self.scales(node, &affines, 1.0 / request.unit, zero)?;
                let codes = SumCodes {
                    codes: request.codes,
                    scales,
                    range: request.range,
                };
                (Finish::Codes(codes), product)
            }
            _ => {
                let (scales, product) = self.to_map(node, &affines, last)?;
                let map = self.new_map(last);
                let finish = Finish::Map {
                    scales,
                    residual: chain.residual,
                    relu: chain.relu,
                    map,
                    codes: self.map_codes(last, node)?,
                };
                (finish, product)
            }
        };
        self.headroom.push(LayerHeadroom {
            node: node.name().to_owned(),
            taps,
            sum: affines.worst_sum(),
            sum_bits: 32,
            product,
            product_bits: 32,
        });
        Ok(finish)
    }
}
