//! Lists come in pages; the next page's address comes from the answer, and must be the API's own.

use reqwest::Url;
use serde::Deserialize;

/// Items asked for in one page: the most that DigitalOcean gives.
pub const PER_PAGE: u32 = 200;

/// The part of a list's answer that every list has. All of it may be missing: then the list ends here.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Envelope {
    #[serde(default)]
    links: Option<Links>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Links {
    #[serde(default)]
    pages: Option<Pages>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Pages {
    #[serde(default)]
    next: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Meta {
    #[serde(default)]
    total: Option<u64>,
}

impl Envelope {
    /// The next page's address as the answer gives it.
    pub fn next(&self) -> Option<&str> {
        self.links.as_ref()?.pages.as_ref()?.next.as_deref()
    }

    /// How many items all pages hold together.
    pub fn total(&self) -> Option<u64> {
        self.meta.as_ref()?.total
    }
}

/// The next page's address, if it has the base's scheme, host and port.
pub fn own(base: &Url, next: &str) -> Option<Url> {
    let origin =
        |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let next = base.join(next).ok()?;
    (origin(&next) == origin(base) && next.username().is_empty() && next.password().is_none()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_scheme_host_and_port_are_followed() {
        let base = Url::parse("https://api.example.net").unwrap();
        let ours =
            ["https://api.example.net/v2/x?page=2", "https://api.example.net:443/v2/x", "/v2/x?page=2"];
        let foreign = [
            "http://api.example.net/v2/x",
            "https://api.example.net:444/v2/x",
            "https://api.example.net.evil.org/v2/x",
            "https://evil.org/https://api.example.net/",
            "//evil.org/v2/x",
            "https://user@api.example.net/v2/x",
            "https://",
        ];
        assert!(ours.iter().all(|next| own(&base, next).is_some()));
        assert!(foreign.iter().all(|next| own(&base, next).is_none()));
    }

    #[test]
    fn an_envelope_may_lack_anything() {
        for (text, next) in [
            (r#"{}"#, None),
            (r#"{"links":null,"meta":null}"#, None),
            (r#"{"links":{},"meta":{"total":3}}"#, None),
            (r#"{"links":{"pages":{}}}"#, None),
            (r#"{"links":{"pages":{"next":"n","last":"l"}}}"#, Some("n")),
        ] {
            let envelope: Envelope = serde_json::from_str(text).unwrap();
            assert_eq!(envelope.next(), next, "{text}");
        }
    }
}
