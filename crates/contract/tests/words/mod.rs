//! Values, and the words that they are on the wire and on disk.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Each value is written as the text beside it, and read from it.
pub(crate) fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    words: impl IntoIterator<Item = (T, &'static str)>,
) {
    for (value, text) in words {
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(serde_json::from_str::<T>(text).unwrap(), value, "{text}");
    }
}
