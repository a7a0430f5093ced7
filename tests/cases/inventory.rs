//! Inventories, good and bad: what each prints.

use std::path::Path;

use cluster::inventory::{Inventory, Problems};

use crate::golden;

/// What a person is told of the file, which is named without its directory.
pub(crate) fn told(path: &Path) -> String {
    let directory = format!("{}/", path.parent().unwrap().display());
    say(Inventory::read(path)).replace(&directory, "")
}

fn say(read: Result<Inventory, Problems>) -> String {
    match read {
        Ok(inventory) if inventory.warnings.is_empty() => "accepted\n".into(),
        Ok(inventory) => format!("accepted\nwarning: {}\n", inventory.warnings.join("\nwarning: ")),
        Err(problems) => format!("{problems}\n"),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_hint() {
    golden::each("inventory", told);
}

#[test]
fn a_refusal_names_file_and_hint_and_never_a_password() {
    for case in golden::cases("inventory") {
        let told = told(&case);
        assert!(!told.contains("hunter2"), "{}: {told}", case.display());
        if told.starts_with("accepted") {
            continue;
        }
        let file = format!("{}:", case.file_name().unwrap().display());
        for problem in told.split_inclusive("\n  hint: ").filter(|it| it.ends_with("hint: ")) {
            assert!(problem.contains(&file), "no file: {told}");
        }
        assert_eq!(told.matches(&file).count(), told.matches("\n  hint: ").count(), "no hint: {told}");
    }
}

#[test]
fn the_inventories_that_come_with_the_program_are_valid() {
    for (name, warnings) in [
        ("lab", &[][..]),
        ("existing-hosts", &[][..]),
        ("digitalocean", &[][..]),
        ("tutorial", &["the password of `tutorial` is weak (6 characters)"][..]),
    ] {
        let path = format!("inventories/{name}.yaml");
        let inventory = Inventory::read(Path::new(&path)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(inventory.warnings.len(), warnings.len(), "{:?}", inventory.warnings);
        for (found, wanted) in inventory.warnings.iter().zip(warnings) {
            assert!(found.starts_with(wanted), "{found}");
        }
        assert_eq!(inventory.nodes.len(), 3);
        assert!(!format!("{inventory:?}").contains("123456"), "Debug tells the password");
    }
}
