//! The laboratory: a DigitalOcean-compatible API on loopback whose droplets are hosts that really boot.
//!
//! `api` is the cloud as its clients see it (a state machine behind axum); `machine` is what its droplets are
//! made of: systemd-nspawn containers, or nothing at all in tests.

pub mod api;
pub mod machine;
