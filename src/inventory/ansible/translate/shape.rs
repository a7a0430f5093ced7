//! The shapes of values.

use serde_yaml::Value as Yaml;

use crate::inventory::ansible::value::{Data, Value};

/// The shapes that a value of a node or of the cluster may have in YAML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Any,
    Number,
    Truth,
    /// A list, which a single value may stand for.
    List,
}

impl Shape {
    /// The value in this shape: what `-e key=value` gives is text, whatever it looks like.
    pub(super) fn of(self, value: &Value) -> Yaml {
        let text = value.scalar();
        match (self, &value.data, text) {
            (Shape::Number, Data::Text(_) | Data::Unsafe(_), Some(text)) => {
                text.trim().parse::<u64>().map_or_else(|_| plain(value), Yaml::from)
            }
            (Shape::Truth, ..) => value.truth().map_or_else(|| plain(value), Yaml::from),
            (Shape::List, _, Some(_)) => Yaml::Sequence(vec![plain(value)]),
            _ => plain(value),
        }
    }

    /// Whether two values are the same in this shape.
    pub(super) fn same(self, one: &Value, other: &Value) -> bool {
        self.of(one) == self.of(other) || one.same(other)
    }
}

/// The value as YAML.
pub(super) fn plain(value: &Value) -> Yaml {
    match &value.data {
        Data::Null | Data::Vault => Yaml::Null,
        Data::Bool(on) => (*on).into(),
        Data::Integer(number) => (*number).into(),
        Data::Float(number) => (*number).into(),
        Data::Text(text) | Data::Unsafe(text) => text.as_str().into(),
        Data::List(items) => Yaml::Sequence(items.iter().map(plain).collect()),
        Data::Map(entries) => {
            Yaml::Mapping(entries.iter().map(|(key, value)| (key.as_str().into(), plain(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ansible::value::Place;

    #[test]
    fn what_is_written_differently_can_be_the_same() {
        let value = |data: Data| Value::new(data, &Place::CommandLine);
        let text = |text: &str| value(Data::Text(text.into()));
        assert!(Shape::Number.same(&text("15"), &value(Data::Integer(15))));
        assert!(Shape::Number.same(&text("015"), &value(Data::Integer(15))));
        assert!(Shape::Any.same(&text("15"), &value(Data::Integer(15))));
        assert!(Shape::Truth.same(&text("yes"), &value(Data::Bool(true))));
        assert!(Shape::List.same(&text("a"), &value(Data::List(vec![text("a")]))));
        assert!(!Shape::Any.same(&text("yes"), &value(Data::Bool(true))));
        let map = |data: Data| value(Data::Map(vec![("a".into(), value(data)), ("b".into(), text("c"))]));
        assert!(Shape::Any.same(&map(Data::Integer(1)), &map(Data::Text("1".into()))));
        assert!(!Shape::Any.same(&map(Data::Integer(1)), &map(Data::Integer(2))));
    }
}
