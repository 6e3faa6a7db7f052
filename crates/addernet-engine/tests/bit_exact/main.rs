//! The same bits from the scalar reference and from every kernel that this CPU offers, for any number of
//! threads and any batch; and what the reference computes is what the real functions round to.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
mod fixture;
mod random_graphs;
mod real_functions;
mod resnet20;
