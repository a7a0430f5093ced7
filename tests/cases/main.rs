//! What needs neither a host nor a network: the inventory, the plan, the words that people read.
//!
//! Most of it is data: a case is a file below `tests/data`, what is expected of it the `.txt` beside it.
//! `UPDATE_EXPECTED=1 cargo test --test cases` writes the expectations anew; read the diff before it is committed.

mod adopt;
mod ansible;
mod cli;
mod commands;
mod connect;
mod dependencies;
mod docs;
mod drill;
mod errors;
mod golden;
mod incident;
mod inventory;
mod laws;
mod model;
mod pace;
mod plan;
mod probe;
mod restore;
mod whose;
