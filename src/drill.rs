//! What `cluster drill` is made of: the faults, who may be drilled, clients that write and read meanwhile, and what
//! their attempts come to. `lane` has the clients; everything else is pure. A restore is drilled as well: `restore`.

pub mod fault;
pub mod figures;
pub mod lane;
pub mod picture;
pub mod preflight;
pub mod report;
pub mod restore;
pub mod sample;
pub mod text;

pub use fault::Fault;
pub use figures::Run;
pub use preflight::Target;
pub use report::Report;
