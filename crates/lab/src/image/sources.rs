//! Where packages come from: from wherever this machine's own apt takes Debian's, if it does.

use crate::program;

/// The base addresses of Debian's archive and of its security updates, as this machine's apt is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirrors {
    archive: String,
    security: String,
}

/// Asks apt. `None` on a machine without apt, with another distribution's, or where `apt-get update` has never
/// run: then mmdebstrap's own default is right.
pub(super) async fn configured() -> Option<Mirrors> {
    let format = "$(REPO_URI) $(ORIGIN) $(LABEL)";
    let targets =
        program::run("apt-get", &["indextargets", "--format", format, "Created-By: Packages"]).await;
    parse(&targets.ok()?)
}

fn parse(targets: &str) -> Option<Mirrors> {
    let find = |label: &str| {
        targets.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (address, origin, of) = (words.next()?, words.next()?, words.next()?);
            // Not a mirror on this machine's own disk, which a droplet cannot read.
            (origin == "Debian" && of == label && address.starts_with("http")).then(|| address.to_owned())
        })
    };
    Some(Mirrors { archive: find("Debian")?, security: find("Debian-Security")? })
}

impl Mirrors {
    /// The lines of `sources.list` for a suite.
    pub(super) fn lines(&self, suite: &str) -> String {
        let Self { archive, security } = self;
        // What is not released has no updates; and a mirror that is some weeks old is good enough for a lab.
        if suite == "sid" {
            return format!("deb [check-valid-until=no] {archive} {suite} main\n");
        }
        format!(
            "deb {archive} {suite} main\n\
             deb {archive} {suite}-updates main\n\
             deb {security} {suite}-security main\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://mirror.example/sec/ Debian Debian-Security\n\
                        http://pgdg.example/ apt.postgresql.org PostgreSQL\n\
                        http://mirror.example/debian/ Debian Debian\n";

    #[test]
    fn debian_is_found_among_others() {
        let mirrors = parse(HERE).unwrap();
        assert_eq!(
            mirrors.lines("trixie"),
            "deb http://mirror.example/debian/ trixie main\n\
             deb http://mirror.example/debian/ trixie-updates main\n\
             deb http://mirror.example/sec/ trixie-security main\n"
        );
        assert_eq!(
            mirrors.lines("sid"),
            "deb [check-valid-until=no] http://mirror.example/debian/ sid main\n"
        );
    }

    #[test]
    fn half_of_it_is_nothing() {
        for targets in
            ["", "http://a.example/ Ubuntu Ubuntu\n", "http://mirror.example/debian/ Debian Debian\n"]
        {
            assert_eq!(parse(targets), None);
        }
    }
}
