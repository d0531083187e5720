//! What is known about the viewer and the candidates, in as few batched reads as possible.

mod candidates;
mod viewer;

pub(crate) use candidates::{Hydrated, hydrate};
pub(crate) use viewer::{Reaction, Viewer, read_viewer};
