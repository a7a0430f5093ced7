//! The JSON Schema of an inventory, from which editors complete and check it.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::file::File;
use crate::settings::{self, SETTINGS};

/// The schema, in the draft that editors know best. What it cannot say, `cluster plan` does.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>().to_value();
    schema["definitions"]["Postgresql"]["properties"]["settings"]["properties"] = settings_of_every_version();
    schema
}

/// The settings that an inventory may have, in some version, with what there is to say of them. Others are allowed too: an
/// extension has settings of its own.
fn settings_of_every_version() -> Value {
    let blocked = |name: &str| SETTINGS.iter().any(|it| it.name == name && !it.is_the_inventorys());
    let mut properties = serde_json::Map::new();
    for name in settings::names().filter(|name| !blocked(name)) {
        let why = SETTINGS.iter().find(|it| it.name == name).map(|it| it.why);
        let mut property = json!({"$ref": "#/definitions/Scalar"});
        if let Some(why) = why {
            property["description"] = why.into();
        }
        properties.insert(name.to_owned(), property);
    }
    properties.into()
}
