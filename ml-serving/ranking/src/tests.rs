//! The whole line over a toy store: what is shown, what is not, and cursors while the world moves on.

mod author;
mod budget;
mod home;
mod paging;
mod person;
mod record;
mod sources;
mod world;
