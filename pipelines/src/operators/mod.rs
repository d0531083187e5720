//! Pure, reusable pieces that jobs are made of.

pub mod dedup;
pub mod distinct;
pub mod due;
pub mod generations;
pub mod history;
pub mod marks;
pub mod pace;
pub mod rate;
pub mod window;

#[cfg(test)]
mod tests;
