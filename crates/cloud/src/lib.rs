//! The DigitalOcean API, as far as a cluster needs it: a client and the objects that it speaks of.
//!
//! Two layers. The lower one is a call per method of [`Client`]: it knows the wire, the errors, paging, rate
//! limits and which request may be sent twice. The upper one ([`droplet`], [`address`], [`spaces`], [`destroy`],
//! [`preflight`]) reaches a state of the world, and each of its operations may be repeated, or killed and run
//! again, at any moment: it looks before it makes.

#![warn(missing_docs)]

pub mod address;
pub mod client;
pub mod destroy;
pub mod droplet;
pub mod error;
pub mod key;
pub mod model;
pub mod names;
pub mod pace;
pub mod page;
pub mod preflight;
pub mod retry;
pub mod scope;
pub mod spaces;

mod calls;

pub use client::{Client, Notice, Observer, Token, check_base_url};
pub use error::Error;
pub use pace::Pace;
pub use retry::Policy;

/// Where the API lives when nobody says otherwise.
pub const DEFAULT_URL: &str = "https://api.digitalocean.com";

/// Something that had to be there: it was found, or made.
#[derive(Clone, Debug)]
pub struct Ensured<T> {
    /// The thing itself, as the API last described it.
    pub value: T,
    /// Whether this call made it.
    pub made: bool,
}
