//! The whole line over a toy store: what is shown, what is not, and cursors while the world moves on.

mod author;
mod home;
mod paging;
mod world;
