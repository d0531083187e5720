//! The laws of [`crate::Warehouse`], one function each.
