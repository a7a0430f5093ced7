//! Connections that outlive a run: the next one finds them, and saves a quarter of a second and the work of a key exchange
//! for every host.
//!
//! A link in a directory that nobody else can look into leads to the socket of ssh's master. Its name is a hash of
//! everything that decides where the connection leads and who may answer there: when the address, the user, a key or a pin
//! changes, nothing is found, and what was kept ends by itself.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssh::Session;
use sha2::{Digest as _, Sha256};

/// For how many seconds after its last use a connection is kept; 0 for none.
pub const VARIABLE: &str = "CLUSTER_SSH_KEEP_SECONDS";

/// As long as Ansible's, unless the environment says otherwise.
const SECONDS: usize = 60;

/// How the directories begin in which ssh's sockets are.
const PREFIX: &str = ".ssh-connection";

/// A directory without a living master is older than any that is being connected.
const OLD: Duration = Duration::from_secs(60);

/// The connections that are kept, of all clusters of this user.
#[derive(Clone, Debug)]
pub struct Kept {
    /// 0700, and this user's.
    directory: PathBuf,
    /// After the last use.
    seconds: usize,
}

impl Kept {
    /// Those in this directory, kept for as long as the environment says.
    pub fn new(directory: PathBuf) -> Kept {
        let said = std::env::var(VARIABLE).ok().and_then(|seconds| seconds.trim().parse().ok());
        Kept { directory, seconds: said.unwrap_or(SECONDS) }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// For how many seconds after its last use a connection is kept; 0 for none.
    pub fn seconds(&self) -> usize {
        self.seconds
    }

    /// The connection of this name, if its master still runs. Whether the host answers is not known.
    pub fn find(&self, name: &str) -> Option<Session> {
        if self.seconds == 0 {
            return None;
        }
        let socket = fs::read_link(self.directory.join(name)).ok()?;
        is_alive(&socket).then(|| Session::resume_mux(socket.into(), None))
    }

    /// Keeps a connection under this name.
    pub fn keep(&self, name: &str, session: Session) {
        let (socket, _) = session.detach();
        let link = self.directory.join(name);
        // In one move: another run may look at this moment.
        let new = self.directory.join(format!("{name}.{}", std::process::id()));
        let kept = symlink(&socket, &new).and_then(|()| fs::rename(&new, &link));
        if kept.is_err() {
            // It ends by itself, as nobody finds it.
            let _ = fs::remove_file(new);
        }
    }

    /// Nobody finds it any more.
    pub fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.directory.join(name));
    }

    /// Deletes what masters that have ended left behind. What cannot be deleted does no harm.
    pub fn sweep(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let is_old = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD));
            if metadata.is_symlink() && !is_alive(&path) {
                let _ = fs::remove_file(path);
            } else if metadata.is_dir()
                && is_old
                && entry.file_name().to_string_lossy().starts_with(PREFIX)
                && !is_alive(&path.join("master"))
            {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

/// Whether a master listens there. One that is stopped still does, until its queue is full; no look waits for it.
pub(super) fn is_alive(socket: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(end) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return false };
    SocketAddrUnix::new(socket).and_then(|address| connect(&end, &address)).is_ok()
}

/// What connections to this node under this `ssh_config` are kept under.
pub(super) fn name(config: &Path, node: &str) -> String {
    let text = fs::read_to_string(config).unwrap_or_default();
    let settings = settings_of(&text, node);
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(config.as_os_str().as_encoded_bytes());
    add(node.as_bytes());
    let mut pins = Vec::new();
    for line in &settings {
        add(line.as_bytes());
        let (key, value) = line.trim().split_once(' ').unwrap_or_default();
        let value = value.trim_matches('"');
        match key {
            "HostKeyAlias" => pins.push((value, None)),
            "UserKnownHostsFile" => {
                if let Some(last) = pins.last_mut() {
                    last.1 = Some(value);
                }
            }
            // Another key in its place.
            "IdentityFile" => add(&state_of(Path::new(value))),
            _ => {}
        }
    }
    let pinned = pins.iter().find_map(|(alias, file)| Some((*alias, (*file)?)));
    match pinned {
        Some((alias, file)) => {
            let hosts = fs::read_to_string(file).unwrap_or_default();
            hosts
                .lines()
                .filter(|line| line.split(' ').next() == Some(alias))
                .for_each(|line| add(line.as_bytes()));
        }
        // The host's key is in the operator's own files.
        None => {
            let own = std::env::var_os("HOME").map(|home| Path::new(&home).join(".ssh/known_hosts"));
            own.iter().for_each(|path| add(&state_of(path)));
            add(&state_of(Path::new("/etc/ssh/ssh_known_hosts")));
        }
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of the `ssh_config` that apply to this node.
fn settings_of<'a>(text: &'a str, node: &str) -> Vec<&'a str> {
    let mut applies = false;
    let is_its = |line: &&str| {
        if let Some(host) = line.strip_prefix("Host ") {
            applies = host == node || host == "*";
        }
        applies
    };
    text.lines().filter(is_its).collect()
}

/// What changes when a file is written or replaced.
fn state_of(path: &Path) -> Vec<u8> {
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let state = [metadata.ino() as i64, metadata.size() as i64, metadata.ctime(), metadata.ctime_nsec()];
    state.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# x\nHost pg1\n  HostName 10.0.0.1\n  HostKeyAlias demo-pg1\n  UserKnownHostsFile \"{dir}/known_hosts\"\n\
        Host pg2\n  HostName 10.0.0.2\nHost *\n  User root\n  IdentityFile \"{dir}/key\"\n";

    #[test]
    fn a_kept_connection_is_found_only_while_everything_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let config = CONFIG.replace("{dir}", directory.path().to_str().unwrap());
        let name_with = |config: &str, hosts: &str| {
            fs::write(path("ssh_config"), config).unwrap();
            fs::write(path("known_hosts"), hosts).unwrap();
            name(&path("ssh_config"), "pg1")
        };
        fs::write(path("key"), "one").unwrap();
        let first = name_with(&config, "demo-pg1 ssh-ed25519 A\n");
        assert_eq!(first.len(), 32);
        // What is another node's does not matter.
        let other = config.replace("10.0.0.2", "10.0.0.3");
        assert_eq!(name_with(&other, "demo-pg2 ssh-ed25519 B\ndemo-pg1 ssh-ed25519 A\n"), first);
        let changed = [
            name_with(&config, "demo-pg1 ssh-ed25519 C\n"),
            name_with(&config, ""),
            name_with(&config.replace("10.0.0.1", "10.0.0.9"), "demo-pg1 ssh-ed25519 A\n"),
            name_with(&config.replace("User root", "User admin"), "demo-pg1 ssh-ed25519 A\n"),
            name(&path("ssh_config"), "pg2"),
        ];
        assert!(changed.iter().all(|name| *name != first));
        fs::write(path("key"), "another").unwrap();
        assert_ne!(name_with(&config, "demo-pg1 ssh-ed25519 A\n"), first);
    }

    #[test]
    fn a_master_that_accepts_nothing_is_not_waited_for() {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master");
        let master = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&master, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&master, 2).unwrap();
        let (told, looks) = std::sync::mpsc::channel();
        std::thread::spawn(move || (0..8).for_each(|_| told.send(is_alive(&path)).unwrap()));
        let patience = Duration::from_secs(10);
        let looks: Vec<bool> =
            (0..8).map(|_| looks.recv_timeout(patience).expect("a look waits for its queue")).collect();
        assert!(looks[0] && !looks[7], "{looks:?}");
    }

    #[test]
    fn what_ended_masters_left_is_swept_away_and_what_lives_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept { directory: directory.path().to_owned(), seconds: 60 };
        let path = |name: &str| directory.path().join(name);
        let master = |name: &str| {
            fs::create_dir(path(name)).unwrap();
            std::os::unix::net::UnixListener::bind(path(name).join("master")).unwrap()
        };
        let living = master(".ssh-connectionA");
        drop(master(".ssh-connectionB"));
        symlink(path(".ssh-connectionA/master"), path("living")).unwrap();
        symlink(path(".ssh-connectionB/master"), path("dead")).unwrap();
        assert!(kept.find("living").is_some() && kept.find("dead").is_none() && kept.find("none").is_none());
        kept.sweep();
        assert!(path("living").exists() && fs::symlink_metadata(path("dead")).is_err());
        // It may just be connecting.
        assert!(path(".ssh-connectionB").exists());
        let old = std::time::SystemTime::now() - Duration::from_secs(100);
        for name in [".ssh-connectionA", ".ssh-connectionB"] {
            fs::File::open(path(name)).unwrap().set_modified(old).unwrap();
        }
        kept.sweep();
        assert!(path(".ssh-connectionA").exists() && !path(".ssh-connectionB").exists());
        drop(living);
    }
}
