//! Finds the line of a key, which serde does not keep.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};

/// The line of every key, by its path (`nodes[1].role`).
pub struct Positions {
    lines: BTreeMap<String, u64>,
    /// A key that stands twice in one mapping, with its second line: serde would silently take the last.
    pub(super) twice: Option<(String, u64)>,
}

/// A collection being read.
enum Open {
    Mapping { path: String, key: Option<String> },
    Sequence { path: String, index: usize },
}

impl Positions {
    /// Reads as far as `text` is YAML.
    pub fn of(text: &str) -> Positions {
        let mut lines = BTreeMap::new();
        let mut twice = None;
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let line = span.start.line() as u64;
            match event {
                Event::Scalar(value, ..) => {
                    if let Some(Open::Mapping { path, key: key @ None }) = open.last_mut() {
                        let full = join(path, &value);
                        if lines.contains_key(&full) {
                            twice.get_or_insert((full.clone(), line));
                        }
                        lines.entry(full.clone()).or_insert(line);
                        *key = Some(full);
                    } else {
                        place(&mut open, &mut lines, line);
                    }
                }
                Event::Alias(..) => {
                    place(&mut open, &mut lines, line);
                }
                Event::MappingStart(..) => {
                    let path = place(&mut open, &mut lines, line);
                    open.push(Open::Mapping { path, key: None });
                }
                Event::SequenceStart(..) => {
                    let path = place(&mut open, &mut lines, line);
                    open.push(Open::Sequence { path, index: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                }
                _ => {}
            }
        }
        Positions { lines, twice }
    }

    /// The line of `path`, or of the nearest key above it.
    pub fn line(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// The path of a value that starts here; what holds it moves on to its next key or item.
fn place(open: &mut [Open], lines: &mut BTreeMap<String, u64>, line: u64) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Mapping { key, .. }) => key.take().unwrap_or_default(),
        Some(Open::Sequence { path, index }) => {
            let path = format!("{path}[{index}]");
            *index += 1;
            lines.entry(path.clone()).or_insert(line);
            path
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_are_found_and_missing_ones_fall_back_to_what_holds_them() {
        let positions =
            Positions::of("cluster: demo\nnodes:\n  - name: pg1\n    id: 1\n  - {name: pg2, id: 2}\n");
        assert_eq!(positions.line("cluster"), Some(1));
        assert_eq!(positions.line("nodes[0].id"), Some(4));
        assert_eq!(positions.line("nodes[1]"), Some(5));
        assert_eq!(positions.line("nodes[1].role"), Some(5));
        assert_eq!(positions.line("nothing"), None);
    }
}
