//! Pure, reusable pieces that jobs are made of.

pub mod dedup;
pub mod distinct;
pub mod marks;
pub mod window;

#[cfg(test)]
mod tests;
