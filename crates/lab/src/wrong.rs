//! What keeps a lab from being, and what to do about it.

/// An error with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Wrong {
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Wrong {
    /// What is wrong, and what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), hint: hint.into() }
    }
}
