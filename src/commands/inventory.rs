//! `cluster inventory show`, `convert` and `schema`: how an inventory is read, without a host or a provider.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use serde_yaml::Value as Yaml;

use crate::cli::InventoryCommand;
use crate::error::{Advice, Exit, with_warnings};
use crate::inventory::ansible::{Place, Reading, Translation};
use crate::inventory::{Inventory, Part, Positions, Problems, Source, Written, schema};
use crate::visible::visible;
use crate::{data, screen, tell};

/// It is the same whatever the inventory.
pub(super) fn print_schema() -> Result<Exit> {
    screen::json(&schema())?;
    Ok(Exit::Done)
}

pub(super) fn run(source: &Source, command: InventoryCommand, json: bool) -> Result<Exit> {
    let (text, checked) = match command {
        InventoryCommand::Show => show(source, json),
        InventoryCommand::Convert => convert(source, json),
        InventoryCommand::Schema => return print_schema(),
    }
    .map_err(usage)?;
    data!("{text}");
    match checked {
        Ok(inventory) => {
            // `convert` has them as comments.
            if matches!(command, InventoryCommand::Show) && !json {
                inventory.warnings.iter().for_each(|warning| tell!("warning: {warning}"));
            }
            Ok(Exit::Done)
        }
        // The JSON has them.
        Err(problems) if matches!(command, InventoryCommand::Show) && json => {
            Err(usage(Problems { notes: Vec::new(), ..problems }))
        }
        Err(problems) => Err(usage(problems)),
    }
}

/// The errors, with what was noticed while reading, which may be the reason.
pub(super) fn usage(problems: Problems) -> anyhow::Error {
    with_warnings(Advice::usage(problems.to_string()).into(), problems.notes)
}

/// What is printed, and the inventory, if it is one.
type Printed = (String, Result<Inventory, Problems>);

/// `cluster inventory convert`.
///
/// # Errors
/// If it is no Ansible inventory.
pub fn convert(source: &Source, json: bool) -> Result<Printed, Problems> {
    let reading = match Written::find(source)? {
        Written::Ansible(reading) => reading,
        Written::Own(_) => {
            let hint = "use it as it is; `cluster inventory show` shows how it is read";
            return Err(Problems::one(&source.file, "is no Ansible inventory", hint));
        }
    };
    let translation = reading.translation();
    let text = if json { pretty(&reading.document(&translation)) } else { reading.convert() };
    Ok((text, reading.checked(&translation)))
}

/// `cluster inventory show`.
///
/// # Errors
/// If it cannot be read at all.
pub fn show(source: &Source, json: bool) -> Result<Printed, Problems> {
    let (shown, checked) = match Written::find(source)? {
        Written::Ansible(reading) => {
            let translation = reading.translation();
            let checked = reading.checked(&translation);
            (Shown::of_ansible(&reading, translation), checked)
        }
        Written::Own(text) => match Inventory::parse(&source.file, &text) {
            // Nothing can be shown of what is empty, or no YAML.
            Err(problems) if !json && !is_mapping(&text) => return Err(problems),
            checked => (Shown::of_own(&source.file, &text), checked),
        },
    };
    Ok((if json { shown.json(&checked) } else { shown.text() }, checked))
}

fn is_mapping(text: &str) -> bool {
    serde_yaml::from_str::<Yaml>(text).is_ok_and(|document| document.is_mapping())
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).map(|text| screen::escaped(&text)).unwrap_or_default()
}

/// A value of the inventory, and where it comes from.
struct Row {
    key: String,
    value: serde_json::Value,
    variable: Option<String>,
    place: Option<Place>,
    remark: Option<String>,
}

/// How an inventory is read.
struct Shown {
    file: String,
    format: &'static str,
    beside: Vec<String>,
    rows: Vec<Row>,
    /// Variables that are understood and change nothing.
    quiet: Vec<(String, Place)>,
    unknown: Vec<(String, Place)>,
}

impl Shown {
    fn of_ansible(reading: &Reading, translation: Translation) -> Shown {
        let mut rows = Vec::new();
        flatten(&translation.document.clone().into(), &mut |key, value| {
            let (mut at, mut origin) = (key, None);
            while origin.is_none() && !at.is_empty() {
                origin = translation.origins.get(at);
                at = at.rfind(['.', '[']).map_or("", |end| &at[..end]);
            }
            let node = key.strip_prefix("nodes[").and_then(|rest| rest.split_once(']'));
            let name = node.and_then(|(index, _)| translation.nodes.get(index.parse::<usize>().ok()?));
            let key = match (name, node) {
                (Some(name), Some((_, rest))) => format!("{name}{rest}"),
                _ => key.to_owned(),
            };
            rows.push(Row {
                key,
                value,
                variable: origin.and_then(|origin| origin.variable.clone()),
                place: origin.and_then(|origin| origin.place.clone()),
                remark: origin.and_then(|origin| origin.remark.clone()),
            });
        });
        Shown {
            file: reading.path.display().to_string(),
            format: reading.format,
            beside: reading.files().iter().skip(1).map(|path| path.display().to_string()).collect(),
            rows,
            quiet: translation.quiet,
            unknown: translation.unknown,
        }
    }

    fn of_own(file: &Path, text: &str) -> Shown {
        let positions = Positions::of(text);
        let document: Yaml = serde_yaml::from_str(text).unwrap_or_default();
        let mut rows = Vec::new();
        flatten(&document, &mut |key, value| {
            let place = positions.line(key).map(|line| Place::Line(file.into(), line));
            rows.push(Row { key: key.to_owned(), value, variable: None, place, remark: None });
        });
        Shown {
            file: file.display().to_string(),
            format: "cluster",
            beside: Vec::new(),
            rows,
            quiet: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}", self.file, format_in_words(self.format));
        if !self.beside.is_empty() {
            text.push_str(&format!(", with {}", self.beside.join(", ")));
        }
        text.push('\n');
        let rows: Vec<[String; 3]> = self.rows.iter().map(Row::columns).collect();
        let width = |column: usize, most: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.filter(|width| *width <= most).max().unwrap_or_default()
        };
        let (keys, values) = (width(0, 60), width(1, 40));
        for [key, value, from] in &rows {
            text.push_str(format!("{key:keys$}  {value:values$}  {from}").trim_end());
            text.push('\n');
        }
        if !self.quiet.is_empty() {
            text.push_str("understood, and without effect here:\n");
            for (variable, place) in &self.quiet {
                text.push_str(&format!("  {variable} ({place})\n"));
            }
        }
        visible(&text)
    }

    fn json(&self, checked: &Result<Inventory, Problems>) -> String {
        let at = |place: Option<&Place>| {
            let file = place.map(|place| place.file().display().to_string());
            (file, place.and_then(Place::line))
        };
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let (file, line) = at(row.place.as_ref());
                json!({
                    "key": row.key, "value": row.value, "variable": row.variable, "file": file, "line": line,
                    "remark": row.remark
                })
            })
            .collect();
        let list = |variables: &[(String, Place)]| -> Vec<serde_json::Value> {
            let one = |(variable, place): &(String, Place)| {
                let (file, line) = at(Some(place));
                json!({"variable": variable, "file": file, "line": line})
            };
            variables.iter().map(one).collect()
        };
        let (warnings, problems) = match checked {
            Ok(inventory) => (inventory.warnings.clone(), Vec::new()),
            Err(problems) => (problems.notes.clone(), problems.list.clone()),
        };
        let problems: Vec<_> = problems
            .iter()
            .map(|problem| {
                let file = problem
                    .file
                    .as_ref()
                    .map_or_else(|| self.file.clone(), |file| file.display().to_string());
                json!({
                    "file": file, "line": problem.line, "key": problem.key, "message": problem.message,
                    "hint": problem.hint
                })
            })
            .collect();
        pretty(&json!({
            "file": self.file, "format": self.format, "beside": self.beside, "values": rows,
            "without_effect": list(&self.quiet), "unknown": list(&self.unknown), "warnings": warnings,
            "problems": problems
        }))
    }
}

fn format_in_words(format: &str) -> String {
    match format {
        "cluster" => "an inventory of cluster's own".into(),
        "INI" | "YAML" => format!("an Ansible inventory in {format}"),
        other => format!("an Ansible inventory, {other}"),
    }
}

impl Row {
    fn columns(&self) -> [String; 3] {
        let value = match &self.value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let from = match (&self.place, &self.variable, &self.remark) {
            (Some(place), _, Some(remark)) => format!("{place}, {remark}"),
            (Some(place), Some(variable), None) => format!("{place} ({variable})"),
            (Some(place), None, None) => place.to_string(),
            (None, _, remark) => remark.clone().unwrap_or_default(),
        };
        [self.key.clone(), value, from]
    }
}

/// Every single value, by the path of its key, as far as it may be shown.
fn flatten(value: &Yaml, found: &mut impl FnMut(&str, serde_json::Value)) {
    let schema = schema();
    flatten_part(value, &Part::whole(&schema), "", found);
}

fn flatten_part(value: &Yaml, part: &Part, path: &str, found: &mut impl FnMut(&str, serde_json::Value)) {
    match value {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten_part(value, &part.key(&key), &path, found);
            }
        }
        Yaml::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten_part(item, &part.item(), &format!("{path}[{index}]"), found);
            }
        }
        value => found(path, part.shown(value)),
    }
}
