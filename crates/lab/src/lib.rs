//! The lab: a DigitalOcean-compatible API on loopback whose droplets are hosts that really boot.
//!
//! `api` is the cloud as its clients see it (a state machine behind axum); `machine` is what its droplets are
//! made of: systemd-nspawn containers, or nothing at all in tests. Around them: `network` (bridges and packet
//! rules), `image` (what droplets boot), `daemon` and `lifecycle` (what runs, starts and clears it all).

pub mod api;
pub mod daemon;
pub mod fault;
mod firewall;
mod floating;
pub mod home;
mod image;
pub mod lifecycle;
pub mod machine;
mod metadata;
mod mounts;
mod name;
mod network;
pub mod order;
mod overlap;
mod prerequisites;
mod program;
mod resources;
pub mod settings;
pub mod spaces;
pub mod status;
mod subnets;
mod wrong;

pub use image::IMAGES;
pub use name::LabName;
pub use settings::LabSettings;
pub use subnets::Subnets;
pub use wrong::Wrong;
