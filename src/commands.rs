//! What the operator's program can be told to do, one module a command.

pub mod lab;
