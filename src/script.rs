//! The scripts that run on hosts. Those that come near what belongs to postgres have `whose.sh` in front of them. Those
//! that know of PostgreSQL take CLUSTER, VERSION and PORT first and have the shared functions of `lib.sh` besides.

use crate::inventory::Inventory;
use crate::remote::Command;

/// A script that stands alone, with what makes it immune to the host in front of it.
macro_rules! plain {
    ($name:literal) => {
        concat!(include_str!("settings/session.sh"), include_str!(concat!("scripts/", $name, ".sh")))
    };
}

/// A script that asks whose a place is.
macro_rules! with_whose {
    ($name:literal) => {
        concat!(
            include_str!("settings/session.sh"),
            include_str!("../crates/contract/src/whose.sh"),
            include_str!(concat!("scripts/", $name, ".sh"))
        )
    };
}

/// A script that runs when files have been written.
macro_rules! after_files {
    ($name:literal) => {
        concat!(
            include_str!("settings/session.sh"),
            include_str!("../crates/contract/src/whose.sh"),
            include_str!("scripts/write-files.sh"),
            include_str!(concat!("scripts/", $name, ".sh"))
        )
    };
}

/// A script with the shared functions in front of it.
macro_rules! with_lib {
    ($name:literal) => {
        concat!(
            include_str!("settings/session.sh"),
            "cluster=$1 version=$2 port=$3\n",
            include_str!("../crates/contract/src/whose.sh"),
            include_str!("scripts/lib.sh"),
            include_str!(concat!("scripts/", $name, ".sh"))
        )
    };
}

macro_rules! scripts {
    ($($constant:ident = $kind:ident $name:literal;)*) => {
        $(pub(crate) const $constant: &str = $kind!($name);)*
        /// Every script by name, whole, as it runs on a host: for shellcheck.
        pub const ALL: &[(&str, &str)] = &[$(($name, $constant)),*];
    };
}

scripts! {
    WRITE_FILES = with_whose "write-files";
    UPDATE_LISTS = plain "update-lists";
    INSTALL = plain "install";
    PROGRAM = plain "program";
    REACH = plain "reach";
    FORGET = plain "forget";
    HOST_KEY_MAKE = plain "host-key-make";
    HOST_KEY_USE = plain "host-key-use";
    SERVICES = plain "services";
    CONFIGURE = after_files "services";
    CREATE_DATA = with_lib "create-data";
    START_NEW = with_lib "start-new";
    PSQL = with_lib "psql";
    REGISTER_PRIMARY = with_lib "register-primary";
    REGISTER_STANDBY = with_lib "register-standby";
    REGISTER_WITNESS = with_lib "register-witness";
    CLONE = with_lib "clone";
    CLONE_UNIT = with_lib "clone-unit";
    RESTORE = with_lib "restore";
    RESTORE_UNIT = with_lib "restore-unit";
    SWAP = with_lib "swap";
    SWAP_UNIT = with_lib "swap-unit";
    DISCARD = with_lib "discard";
    START_STANDBY = with_lib "start-standby";
    RELOAD = with_lib "reload";
    RESTART = with_lib "restart";
    TRY_SETTINGS = with_lib "try-settings";
    STOP = with_lib "stop";
    ASK = plain "ask";
    CLOCK = plain "clock";
    JOURNAL = plain "journal";
    PROVE = plain "prove";
    READ_SECRET = with_whose "read-secret";
    HOLD = plain "hold";
    UNLOCK = plain "unlock";
    LOCK_HOLDER = plain "lock-holder";
    STATEMENT = plain "statement";
    EXPOSED_KEY = plain "exposed-key";
    CLONE_SIZE = with_lib "clone-size";
    DRILL_CHECK = plain "drill-check";
    DRILL_BREAK = with_lib "drill-break";
    DRILL_MEND = with_lib "drill-mend";
}

/// What the guard runs on its own.
pub const OF_THE_GUARD: (&str, &str) = (
    "rejoin",
    concat!(
        include_str!("../crates/contract/src/whose.sh"),
        include_str!("../crates/node/src/guard/rejoin.sh")
    ),
);

/// A script that knows of PostgreSQL, with what it takes first: CLUSTER, VERSION and PORT.
pub(crate) fn of_postgres(inventory: &Inventory, label: &'static str, script: &'static str) -> Command {
    let postgresql = &inventory.postgresql;
    Command::new(label, script).args([
        inventory.cluster.clone(),
        postgresql.version.to_string(),
        postgresql.port.to_string(),
    ])
}

/// SQL, run as postgres in a database.
pub(crate) fn psql(
    inventory: &Inventory,
    label: &'static str,
    database: &str,
    sql: impl Into<Vec<u8>>,
) -> Command {
    of_postgres(inventory, label, PSQL).arg(database).stdin(sql)
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use crate::settings::SESSION;

    /// A host may speak German, and its server may have any default at all.
    #[test]
    fn every_script_is_immune_to_the_host_before_its_first_command() {
        let probe = ("probe", crate::facts::probe::SCRIPT);
        for (name, text) in ALL.iter().chain([&probe]) {
            let first = text.lines().find(|line| !line.starts_with('#'));
            assert_eq!(first, Some("export LC_ALL=C"), "{name}");
            for (setting, value) in SESSION {
                let value = value.replace(' ', "\\ ").replace("\"$user\",\\ ", "\"$user\",");
                assert!(text.contains(&format!("-c {setting}={value}")), "{name} lacks {setting}={value}");
            }
        }
    }
}
