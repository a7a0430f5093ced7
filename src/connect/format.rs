//! Renders a connection in the format of each driver.

use std::fmt::Write as _;

use clap::ValueEnum;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{CONNECT_SECONDS, Connection, KEEPALIVE_SECONDS, Password, SILENCE_SECONDS, Server, in_order};

/// The program or library that reads the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Options for `new Sequelize()`, version 6
    Sequelize,
    /// Options for `new pg.Pool()`: one for writes, one for each node to read from
    NodePostgres,
    /// A service file: `PGSERVICEFILE=FILE psql service=write`
    Libpq,
    /// Java properties with URLs for the PostgreSQL JDBC driver
    Jdbc,
    /// Arguments for `create_engine()`, with psycopg
    Sqlalchemy,
    /// Environment variables for a shell, systemd or dotenv
    Env,
    /// Plain JSON
    Json,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Write,
    Read,
}

impl Format {
    /// The whole text.
    pub fn render(self, connection: &Connection) -> String {
        match self {
            Format::Sequelize => pretty(&sequelize(connection)),
            Format::NodePostgres => pretty(&node_postgres(connection)),
            Format::Libpq => libpq(connection),
            Format::Jdbc => jdbc(connection),
            Format::Sqlalchemy => pretty(&sqlalchemy(connection)),
            Format::Env => env(connection),
            Format::Json => pretty(&values(connection)),
        }
    }

    /// A warning if no address follows the primary, and the program that reads the settings does not look for it.
    pub fn warning(self, connection: &Connection) -> Option<&'static str> {
        if connection.write.len() < 2 {
            return None;
        }
        match self {
            Format::Libpq | Format::Jdbc | Format::Sqlalchemy | Format::Env => None,
            Format::Sequelize | Format::NodePostgres => Some(
                "there is no floating IP, and this driver does not look for the primary among several hosts: it \
                 loses the primary in a failover, until this is run again",
            ),
            Format::Json => Some(
                "there is no floating IP: a driver that does not look for the primary among several hosts loses it \
                 in a failover",
            ),
        }
    }

    /// How an application finds a password that is not included.
    pub fn password_note(self, connection: &Connection) -> Option<String> {
        let Password::In(file) = &connection.password else { return None };
        let file = file.display();
        Some(match self {
            Format::Libpq | Format::Sqlalchemy | Format::Env | Format::Json => {
                format!(
                    "the password is in {file}, which the settings name; --with-password includes it instead"
                )
            }
            Format::Sequelize | Format::NodePostgres | Format::Jdbc => {
                format!(
                    "the password is in {file}: `export PGPASSFILE={file}`; --with-password includes it instead"
                )
            }
        })
    }
}

/// The conninfo string with which psql is started; the password file is part of it, the password never.
pub fn conninfo(connection: &Connection, servers: &[Server], writable: bool) -> String {
    let target = if writable { Use::Write } else { Use::Read };
    parameters(connection, servers, target)
        .iter()
        .map(|(name, value)| format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// libpq's parameters; the password, or its file, last.
fn parameters(connection: &Connection, servers: &[Server], target: Use) -> Vec<(&'static str, String)> {
    let mut parameters = vec![
        ("host", hosts(servers)),
        ("port", connection.port.to_string()),
        ("dbname", connection.database.clone()),
        ("user", connection.user.clone()),
        ("target_session_attrs", if target == Use::Write { "read-write" } else { "any" }.into()),
        ("sslmode", "require".into()),
        // Nobody else gets the password: the server proves that it knows it, too, and holds its certificate.
        ("channel_binding", "require".into()),
        ("connect_timeout", CONNECT_SECONDS.to_string()),
        ("keepalives_idle", KEEPALIVE_SECONDS.to_string()),
        ("keepalives_interval", "1".into()),
        ("keepalives_count", SILENCE_SECONDS.to_string()),
        ("tcp_user_timeout", milliseconds(SILENCE_SECONDS).to_string()),
    ];
    parameters.push(match &connection.password {
        Password::In(file) => ("passfile", file.display().to_string()),
        Password::Plain(password) => ("password", password.expose_secret().to_owned()),
    });
    parameters
}

fn libpq(connection: &Connection) -> String {
    let mut text =
        format!("# Cluster {}. Use: PGSERVICEFILE=THIS_FILE psql service=write\n", connection.cluster);
    for (name, servers, target) in
        [("write", &connection.write, Use::Write), ("read", &connection.read, Use::Read)]
    {
        let _ = writeln!(text, "\n[{name}]");
        for (name, value) in parameters(connection, servers, target) {
            let _ = writeln!(text, "{name}={value}");
        }
    }
    text
}

fn env(connection: &Connection) -> String {
    let url = |servers, target| {
        let mut url = format!("postgresql://{}", encode(&connection.user));
        let mut query = Vec::new();
        for (name, value) in parameters(connection, servers, target) {
            match name {
                "password" => {
                    let _ = write!(url, ":{}", encode(&value));
                }
                "host" | "port" | "dbname" | "user" | "passfile" => {}
                _ => query.push(format!("{name}={}", encode(&value))),
            }
        }
        let hosts: Vec<_> = servers.iter().map(|server| authority(server, connection.port)).collect();
        format!("{url}@{}/{}?{}", hosts.join(","), encode(&connection.database), query.join("&"))
    };
    let mut text = format!(
        "DATABASE_URL={}\nDATABASE_READ_URL={}\n",
        quote(&url(&connection.write, Use::Write)),
        quote(&url(&connection.read, Use::Read))
    );
    if let Password::In(file) = &connection.password {
        let _ = writeln!(text, "PGPASSFILE={}", quote(&file.display().to_string()));
    }
    text
}

fn sqlalchemy(connection: &Connection) -> Value {
    let engine = |servers: &[Server], target| {
        let mut arguments = serde_json::Map::new();
        let mut password = String::new();
        for (name, value) in parameters(connection, servers, target) {
            match name {
                "password" => password = format!(":{}", encode(&value)),
                "host" => drop(arguments.insert(name.into(), value.into())),
                "port" | "user" | "dbname" => {}
                _ => drop(arguments.insert(name.into(), value.into())),
            }
        }
        let url = format!(
            "postgresql+psycopg://{}{password}@:{}/{}",
            encode(&connection.user),
            connection.port,
            encode(&connection.database)
        );
        json!({"url": url, "pool_pre_ping": true, "connect_args": arguments})
    };
    json!({
        "write": engine(&connection.write, Use::Write),
        "read": engine(&connection.read, Use::Read),
    })
}

fn jdbc(connection: &Connection) -> String {
    // The order is nothing to a driver that looks for the primary or spreads its load, but much to a password file.
    let url = |servers: &[Server], target: &str| {
        let hosts: Vec<_> =
            in_order(servers).iter().map(|server| authority(server, connection.port)).collect();
        format!(
            "jdbc:postgresql://{}/{}?targetServerType={target}&sslmode=require&channelBinding=require&connectTimeout={CONNECT_SECONDS}\
             &socketTimeout={SILENCE_SECONDS}&tcpKeepAlive=true&hostRecheckSeconds={KEEPALIVE_SECONDS}",
            hosts.join(","),
            encode(&connection.database)
        )
    };
    let mut text = format!(
        "write.url={}\nread.url={}&loadBalanceHosts=true\nuser={}\n",
        url(&connection.write, "primary"),
        url(&connection.read, "any"),
        connection.user
    );
    if let Password::Plain(password) = &connection.password {
        let _ = writeln!(text, "password={}", property(password.expose_secret()));
    }
    text
}

/// A value of a properties file, which Java reads as Latin-1 and whose leading white space it drops.
fn property(value: &str) -> String {
    let mut text = String::new();
    for (index, c) in value.chars().enumerate() {
        match c {
            '\\' => text.push_str("\\\\"),
            ' ' if index == 0 => text.push_str("\\ "),
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

/// TLS that encrypts without authentication: the nodes' certificates are self-signed.
fn node_tls() -> Value {
    json!({"rejectUnauthorized": false})
}

fn node_postgres(connection: &Connection) -> Value {
    let pool = |server: &Server| {
        let mut pool = json!({
            "host": server.host,
            "port": connection.port,
            "user": connection.user,
            "database": connection.database,
            "ssl": node_tls(),
            "enableChannelBinding": true,
            "max": 10,
            "connectionTimeoutMillis": milliseconds(CONNECT_SECONDS),
            "query_timeout": milliseconds(SILENCE_SECONDS),
            "keepAlive": true,
            "keepAliveInitialDelayMillis": milliseconds(KEEPALIVE_SECONDS),
        });
        with_password(&mut pool, connection);
        pool
    };
    json!({
        "write": pool(&connection.write[0]),
        "read": connection.read.iter().map(pool).collect::<Vec<_>>(),
    })
}

fn sequelize(connection: &Connection) -> Value {
    let host = |server: &Server| json!({"host": server.host});
    let mut options = json!({
        "dialect": "postgres",
        // Sequelize would ask the server that takes writes before the first read, which may be away.
        "databaseVersion": format!("{}.0.0", connection.version),
        "port": connection.port,
        "username": connection.user,
        "database": connection.database,
        "replication": {
            "write": host(&connection.write[0]),
            "read": connection.read.iter().map(host).collect::<Vec<_>>(),
        },
        "pool": {"max": 10, "acquire": milliseconds(CONNECT_SECONDS + SILENCE_SECONDS)},
        "dialectOptions": {
            "ssl": node_tls(),
            "connectionTimeoutMillis": milliseconds(CONNECT_SECONDS),
            "query_timeout": milliseconds(SILENCE_SECONDS),
            "keepAlive": true,
        },
    });
    with_password(&mut options, connection);
    options
}

fn values(connection: &Connection) -> Value {
    let servers = |servers: &[Server]| -> Vec<Value> {
        servers
            .iter()
            .map(|server| match &server.node {
                Some(node) => json!({"host": server.host, "node": node}),
                None => json!({"host": server.host}),
            })
            .collect()
    };
    let mut values = json!({
        "cluster": connection.cluster,
        "version": connection.version,
        "user": connection.user,
        "database": connection.database,
        "port": connection.port,
        "write": servers(&connection.write),
        "read": servers(&connection.read),
        "tls": "require",
        "connect_timeout_seconds": CONNECT_SECONDS,
        "silence_timeout_seconds": SILENCE_SECONDS,
        "keepalive_seconds": KEEPALIVE_SECONDS,
    });
    with_password(&mut values, connection);
    if let Password::In(file) = &connection.password {
        values["password_file"] = file.display().to_string().into();
    }
    values
}

fn with_password(values: &mut Value, connection: &Connection) {
    if let Password::Plain(password) = &connection.password {
        values["password"] = password.expose_secret().into();
    }
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain data");
    text.push('\n');
    text
}

fn milliseconds(seconds: u32) -> u32 {
    seconds * 1000
}

fn hosts(servers: &[Server]) -> String {
    servers.iter().map(|server| server.host.as_str()).collect::<Vec<_>>().join(",")
}

/// `host:port`, with brackets around what has colons of its own.
fn authority(server: &Server, port: u16) -> String {
    if server.host.contains(':') {
        format!("[{}]:{port}", server.host)
    } else {
        format!("{}:{port}", server.host)
    }
}

/// Percent-encodes all that a URL could take for its own.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Quotes for a shell; dotenv and systemd read it the same way.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::property;

    #[test]
    fn java_reads_a_password_as_it_is() {
        assert_eq!(property("M\u{fc}\u{df}iggang-2026"), "M\\u00fc\\u00dfiggang-2026");
        assert_eq!(property(" a b\r\\"), "\\ a b\\u000d\\\\");
        assert_eq!(property("\u{1f511}"), "\\ud83d\\udd11");
    }
}
