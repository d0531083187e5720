//! What is known about the viewer and the candidates, in as few batched reads as possible.

mod candidates;
mod person;
mod taste;
mod viewer;

pub(crate) use candidates::{Hydrated, hydrate, join};
pub(crate) use person::read_person;
#[cfg(test)]
pub(crate) use taste::Reaction;
pub(crate) use taste::{Taste, read_taste};
pub(crate) use viewer::{Viewer, read_viewer};
