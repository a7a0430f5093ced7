//! Spaces: the cloud's object storage, as an S3 server over TLS beside the API.
//!
//! [`store`](mod@store) keeps buckets and objects in a directory. `s3` gives them S3's words, `access` asks whether a key's
//! grants allow it, `server` is TLS, HTTP and the faults in front. The protocol itself (signatures, XML, routes) is
//! the crate `s3s`, which nothing outside this module knows of.

mod access;
mod authority;
mod body;
#[cfg(test)]
mod laws;
mod s3;
mod server;
mod store;
mod tls;

pub use server::{Spaces, serve};

/// The name in the certificate, which droplets find in their `/etc/hosts`.
pub const HOST: &str = "spaces.lab";
