//! What runs on a node: the guard, the promote hook and the start check.

pub mod config;
