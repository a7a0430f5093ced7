//! Droplets as such, of whatever cluster: booted, moved, cut off and dialled.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Lab;

/// How long anything may take; a first image is made in half a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a connection may take, and a greeting: a machine that does too much takes its time.
const DIAL: Duration = Duration::from_secs(30);
/// How long nothing must come of a connection to where nobody is.
const NOBODY: Duration = Duration::from_secs(2);
/// The same as `DIAL`, for ssh, in seconds.
const PATIENTLY: u32 = 30;
/// The same where the host may not be there, and whoever waits for it tries again.
const SHORTLY: u32 = 5;

/// A droplet with the host key and the login key of its lab's test.
pub(crate) struct Droplet {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) private: Ipv4Addr,
    files: PathBuf,
}

impl Lab {
    /// This machine's address on the public network.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, 0, 1)
    }

    /// `cluster lab status`.
    pub(crate) fn lab_status(&self) -> Value {
        self.lab(&["status", "--json"]).ok().json()
    }

    pub(crate) fn kill_daemon(&self) {
        let pid = std::fs::read_to_string(format!("/var/lib/cluster-lab/{}/daemon.pid", self.name)).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        within("the daemon's end", || (self.lab_status()["running"] == false).then_some(()));
    }

    /// The keys that droplets are made with.
    fn make_keys(&self) {
        for key in ["login", "host"] {
            let path = self.directory.path().join(key);
            if path.exists() {
                continue;
            }
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(path)
                .status();
            assert!(made.unwrap().success());
        }
    }

    /// Creates droplets and waits until cloud-init is through on each.
    pub(crate) fn boot(&self, image: &str, names: &[&str]) -> Vec<Droplet> {
        self.make_keys();
        let read = |key: &str| std::fs::read_to_string(self.directory.path().join(key)).unwrap();
        let keys = self.request("GET", "/v2/account/keys", None);
        let key = match keys["ssh_keys"][0]["id"].as_u64() {
            Some(id) => id,
            None => {
                let key = json!({ "name": "login", "public_key": read("login.pub").trim() });
                self.request("POST", "/v2/account/keys", Some(&key))["ssh_key"]["id"].as_u64().unwrap()
            }
        };
        let private: String = read("host").lines().map(|line| format!("    {line}\n")).collect();
        let user_data = format!(
            "#cloud-config\nssh_keys:\n  ed25519_private: |\n{private}  ed25519_public: {}\n\
             runcmd:\n  - echo by cloud-init > /root/ran\n",
            read("host.pub").trim()
        );
        let wanted = json!({
            "names": names, "image": image, "region": "fra1", "size": "s-1vcpu-1gb",
            "ssh_keys": [key], "user_data": user_data,
        });
        let made = self.request("POST", "/v2/droplets", Some(&wanted));
        let hosts: Vec<_> = made["droplets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|droplet| self.host(droplet["id"].as_u64().unwrap()))
            .collect();
        hosts.iter().for_each(Droplet::wait);
        hosts
    }

    fn host(&self, id: u64) -> Droplet {
        let droplet = within("an active droplet", || {
            let droplet = &self.request("GET", &format!("/v2/droplets/{id}"), None)["droplet"];
            (droplet["status"] == "active" && !droplet["networks"]["v4"].as_array()?.is_empty())
                .then(|| droplet.clone())
        });
        let networks = droplet["networks"]["v4"].as_array().unwrap();
        let address = |kind: &str| {
            let network = networks.iter().find(|network| network["type"] == kind).unwrap();
            network["ip_address"].as_str().unwrap().parse().unwrap()
        };
        let host = Droplet {
            id,
            name: droplet["name"].as_str().unwrap().to_owned(),
            address: address("public"),
            private: address("private"),
            files: self.directory.path().to_owned(),
        };
        self.trust(host.address);
        host
    }

    /// Pins the bench's host key for an address.
    fn trust(&self, address: Ipv4Addr) {
        use std::io::Write;
        let key = std::fs::read_to_string(self.directory.path().join("host.pub")).unwrap();
        let path = self.directory.path().join("known_hosts");
        let mut known = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(known, "{address} {}", key.trim()).unwrap();
    }

    /// A floating address that leads to a droplet.
    pub(crate) fn floating_at(&self, droplet: u64) -> Ipv4Addr {
        let made = self.request("POST", "/v2/reserved_ips", Some(&json!({ "droplet_id": droplet })));
        let address = made["reserved_ip"]["ip"].as_str().unwrap().parse().unwrap();
        self.trust(address);
        self.wait_for(address, Some(droplet));
        address
    }

    pub(crate) fn assign(&self, address: Ipv4Addr, droplet: u64) {
        let action = json!({ "type": "assign", "droplet_id": droplet });
        self.request("POST", &format!("/v2/reserved_ips/{address}/actions"), Some(&action));
        self.wait_for(address, Some(droplet));
    }

    pub(crate) fn unassign(&self, address: Ipv4Addr) {
        self.request(
            "POST",
            &format!("/v2/reserved_ips/{address}/actions"),
            Some(&json!({ "type": "unassign" })),
        );
        self.wait_for(address, None);
    }

    fn wait_for(&self, address: Ipv4Addr, droplet: Option<u64>) {
        within("the address's way", || {
            let held = &self.request("GET", &format!("/v2/reserved_ips/{address}"), None)["reserved_ip"];
            (held["locked"] == false && held["droplet"]["id"].as_u64() == droplet).then_some(())
        });
    }

    /// A droplet action, to its end.
    pub(crate) fn act(&self, droplet: u64, kind: &str) {
        let path = format!("/v2/droplets/{droplet}/actions");
        let action = self.request("POST", &path, Some(&json!({ "type": kind })));
        let id = action["action"]["id"].as_u64().unwrap_or_else(|| panic!("{kind}: {action}"));
        within(kind, || {
            let action = &self.request("GET", &format!("/v2/actions/{id}"), None)["action"];
            assert_ne!(action["status"], "errored", "{action}");
            (action["status"] == "completed").then_some(())
        });
    }

    pub(crate) fn delete(&self, droplet: u64) {
        self.request("DELETE", &format!("/v2/droplets/{droplet}"), None);
        within("a droplet's end", || (self.lab_status()["droplets"] == json!([])).then_some(()));
    }

    /// The name of the host that answers at an address.
    pub(crate) fn name_behind(&self, address: Ipv4Addr) -> String {
        let output = ssh(self.directory.path(), address, PATIENTLY).arg("hostname").output().unwrap();
        text("hostname", output).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Droplet {
    /// Waits until cloud-init is through.
    pub(crate) fn wait(&self) {
        within(&format!("{} to be up", self.name), || self.try_ssh("cloud-init status --wait").ok());
    }

    pub(crate) fn ssh(&self, script: &str) -> String {
        self.run(script).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a script that may fail as root, with the host key checked.
    pub(crate) fn run(&self, script: &str) -> Result<String, String> {
        self.ssh_within(PATIENTLY, script)
    }

    /// The same on a host that may not be there.
    pub(crate) fn try_ssh(&self, script: &str) -> Result<String, String> {
        self.ssh_within(SHORTLY, script)
    }

    fn ssh_within(&self, seconds: u32, script: &str) -> Result<String, String> {
        text(script, ssh(&self.files, self.address, seconds).arg(script).output().unwrap())
    }

    /// What comes of dialling from this host: `ok`, or the name of Python's exception.
    pub(crate) fn dial(&self, address: Ipv4Addr, port: u16) -> String {
        self.ssh(&format!(
            "python3 -c '
import socket
try:
    socket.create_connection((\"{address}\", {port}), 5).close()
    print(\"ok\")
except Exception as error:
    print(\"TimeoutError\" if isinstance(error, socket.timeout) else type(error).__name__)'"
        ))
    }
}

/// Dials from this machine.
pub(crate) fn dial(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), DIAL)
}

/// Whether nobody answers this machine.
pub(crate) fn is_unreachable(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), NOBODY).is_err()
}

/// A connection that has been greeted by the other side.
pub(crate) fn greeted(address: Ipv4Addr) -> TcpStream {
    let mut connection = dial(address, 22).unwrap();
    connection.set_read_timeout(Some(DIAL)).unwrap();
    assert!(connection.read(&mut [0; 256]).unwrap() > 0);
    connection
}

/// Whether nothing comes by a connection for this long: no data, no end, no reset.
pub(crate) fn is_silent(mut connection: &TcpStream, time: Duration) -> bool {
    connection.set_read_timeout(Some(time)).unwrap();
    matches!(connection.read(&mut [0; 256]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether the other side does not know a connection any more.
pub(crate) fn is_reset(mut connection: &TcpStream) -> bool {
    use std::io::Write;
    connection.set_read_timeout(Some(DIAL)).unwrap();
    let mut buffer = [0; 256];
    // The first bytes provoke the answer, if the end was not noticed before.
    let _ = connection.write(b"SSH-2.0-x\r\n");
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Asks until there is an answer.
pub(crate) fn within<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ssh(files: &std::path::Path, address: Ipv4Addr, seconds: u32) -> Command {
    let mut ssh = super::ssh();
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        &format!("ConnectTimeout={seconds}"),
    ]);
    ssh.arg("-i").arg(files.join("login"));
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", files.join("known_hosts").display()));
    ssh.arg(format!("root@{address}"));
    ssh
}

fn text(what: &str, output: Output) -> Result<String, String> {
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{what}: {}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}
