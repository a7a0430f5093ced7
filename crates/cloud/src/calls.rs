//! One method of the client per request of the API.

mod addresses;
mod catalog;
mod droplets;
mod keys;
mod spaces_keys;
mod tags;

pub use droplets::{DropletSpec, Power};

/// A path segment from outside: what could end the segment is percent-encoded.
fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
