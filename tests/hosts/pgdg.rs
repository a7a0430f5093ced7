//! The PostgreSQL project's apt repository, which tests do not reach: a host of the lab has its names, packages of the same
//! sources, a certificate and a signing key; the other hosts are made to trust both.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{BareHost, Lab};

/// Where postgresql-common has the repository's signing key.
const KEY: &str = "/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc";

/// Names a directory with packages of the tutorial's own version for Debian 12, and of its repmgr: no Debian has the source of them.
pub(super) const POSTGRESQL_12: &str = "CLUSTER_TEST_POSTGRESQL_12";

/// Each name is a directory of its own, as each is a repository of its own.
const SERVER: &str = r#"
import http.server, ssl

class Names(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path):
        self.directory = "/srv/" + self.headers.get("Host", "none").split(":")[0]
        return super().translate_path(path)

class Server(http.server.ThreadingHTTPServer):
    def shutdown_request(self, request):
        # Whoever is not told the end of TLS takes it for an attack.
        try:
            request.unwrap()
        except OSError:
            pass
        super().shutdown_request(request)

server = Server(("", 443), Names)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/root/pgdg.crt", "/root/pgdg.key")
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// Where the packages are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Repository,
    /// The repository has the system, and no longer the version.
    Archive,
    /// The repository has dropped the whole system, which is past its end of life.
    ArchiveAlone,
}

/// Whose packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packages {
    /// Those of the Debian with this image, and what they need.
    OfDebian(&'static str),
    /// All in a directory, made for the Debian that is to have them: a newer one's want a newer libc.
    Made(PathBuf),
}

impl Packages {
    /// Makes those of a version of PostgreSQL for a Debian. The first time takes ten minutes.
    pub(super) fn made(suite: &str, version: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/rebuild.sh");
        let run = Command::new(script).args([suite, &version.to_string()]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Packages::Made(String::from_utf8(run.stdout).unwrap().trim_end().into())
    }

    /// Those that somebody else has made, in the directory that a variable of the environment names.
    pub(super) fn named_by(variable: &str) -> Self {
        let directory = std::env::var_os(variable);
        Packages::Made(
            directory.unwrap_or_else(|| panic!("{variable} names no directory of packages")).into(),
        )
    }

    /// Whether a package has been made.
    pub(super) fn have(&self, package: &str) -> bool {
        let Packages::Made(directory) = self else { return false };
        let mut files = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name());
        files.any(|it| it.to_string_lossy().starts_with(&format!("{package}_")))
    }

    /// The commands by which the host has those of a version where apt keeps what it fetched.
    fn fetched(&self, lab: &Lab, host: &BareHost, version: u32) -> String {
        let Packages::Made(directory) = self else {
            return format!(
                r#"
wanted='postgresql-{version} postgresql-{version}-repmgr'
apt-get -qy --no-install-recommends --download-only install $wanted
# What this host has and another Debian may not.
needed=$(apt-cache depends $wanted | sed -n 's/^ *Depends: \([a-z0-9][^ ]*\)$/\1/p' | sort -u)
(cd /var/cache/apt/archives && apt-get -q download $needed)"#
            );
        };
        let archive = Command::new("tar").args(["-c", "-C"]).arg(directory).arg(".").output().unwrap();
        assert!(archive.status.success(), "{archive:?}");
        let run = lab.bare_ssh_with(host, "mkdir /root/made && tar -x -C /root/made", &archive.stdout);
        assert_eq!(run.code, 0, "{run:?}");
        "mv /root/made/*.deb /var/cache/apt/archives".to_owned()
    }
}

/// Packages, as their host signs and offers them.
pub(super) struct Repository {
    address: String,
    certificate: String,
    signing_key: String,
}

impl Repository {
    /// Offers packages of a version to hosts with the Debian of `codename`.
    pub(super) fn start(
        lab: &Lab,
        host: &BareHost,
        holder: Holder,
        codename: &str,
        packages: &Packages,
        version: u32,
    ) -> Self {
        let fetched = packages.fetched(lab, host, version);
        let (main, archive) = (format!("{codename}-pgdg"), format!("{codename}-pgdg-archive"));
        let offered = match holder {
            Holder::Repository => format!("offer apt.postgresql.org {main}"),
            Holder::Archive => format!(
                "offer apt.postgresql.org {main} 'postgresql-*{version}*'; offer apt-archive.postgresql.org {archive}"
            ),
            Holder::ArchiveAlone => format!("offer apt-archive.postgresql.org {archive}"),
        };
        lab.bare_ssh_with(host, "cat >/root/serve.py", SERVER);
        let script = format!(
            r#"
set -eu
exec >/root/pgdg.log 2>&1
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/root/pgdg.gnupg
apt-get -q update
apt-get -qy --no-install-recommends install apt-utils gnupg openssl python3
apt-get clean
{fetched}
install -d -m 700 "$GNUPGHOME"
gpg --batch --passphrase '' --quick-generate-key 'test repository' rsa3072 sign never
gpg --armor --export >/root/pgdg.asc
# NAME SUITE, and the packages that it does not have.
offer() {{
    install -d "/srv/$1/pub/repos/apt/dists/$2/main/binary-amd64"
    cd "/srv/$1/pub/repos/apt"
    cp -r /var/cache/apt/archives pool
    if [ $# -gt 2 ]; then find pool -name "$3" -delete; fi
    apt-ftparchive packages pool >"dists/$2/main/binary-amd64/Packages"
    apt-ftparchive -o APT::FTPArchive::Release::Origin="$1" -o APT::FTPArchive::Release::Codename="$2" \
        -o APT::FTPArchive::Release::Architectures=amd64 -o APT::FTPArchive::Release::Components=main release "dists/$2" >/root/Release
    gpg --batch --clearsign --output "dists/$2/InRelease" /root/Release
}}
{offered}
openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=pgdg -keyout /root/pgdg.key -out /root/pgdg.crt \
    -addext subjectAltName=DNS:apt.postgresql.org,DNS:apt-archive.postgresql.org
systemd-run --unit=pgdg python3 /root/serve.py
"#
        );
        let run = lab.try_bare_ssh(host, &script);
        assert_eq!(run.code, 0, "{}", lab.bare_ssh(host, "cat /root/pgdg.log"));
        let read = |file: &str| lab.bare_ssh(host, &format!("cat {file}")) + "\n";
        Repository {
            address: host.private.clone(),
            certificate: read("/root/pgdg.crt"),
            signing_key: read("/root/pgdg.asc"),
        }
    }

    /// Makes a host take this for PostgreSQL's. The key comes with a package, as everywhere, and is another one then.
    pub(super) fn is_trusted_by(&self, lab: &Lab, host: &BareHost) {
        let give = |path: &str, text: &str| {
            let run = lab.bare_ssh_with(host, &format!("cat >{path}"), text);
            assert_eq!(run.code, 0, "{run:?}");
        };
        give("/usr/local/share/ca-certificates/pgdg.crt", &self.certificate);
        give("/root/pgdg.asc", &self.signing_key);
        let hook =
            format!("DPkg::Post-Invoke {{ \"if test -e {KEY}; then cp /root/pgdg.asc {KEY}; fi\"; }};\n");
        give("/etc/apt/apt.conf.d/99-pgdg", &hook);
        // As they are where a suite has had no updates for some days.
        give(
            "/etc/apt/apt.conf.d/99-old-lists",
            "APT::Update::Post-Invoke { \"touch -d '3 days ago' /var/lib/apt/lists/*_Packages*\"; };\n",
        );
        let names = format!("{} apt.postgresql.org apt-archive.postgresql.org", self.address);
        lab.bare_ssh(host, &format!("echo {names} >>/etc/hosts && update-ca-certificates 2>&1"));
        assert_eq!(
            lab.bare_ssh(host, &format!("ls {KEY} 2>/dev/null || :")),
            "",
            "the key comes with a package"
        );
    }
}
