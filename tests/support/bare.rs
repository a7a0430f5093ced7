//! Hosts that have booted and hold nothing: droplets made by hand, for the provider that has no API.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use cluster_cloud::Pace;
use cluster_cloud::droplet::DropletSpec;

use super::{Lab, Run, block_on};

/// A host that holds nothing.
#[derive(Clone, Debug)]
pub(crate) struct BareHost {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) private: String,
    pub(crate) key: String,
}

impl Lab {
    /// Makes them, with a key of the test's own.
    pub(crate) fn bare_hosts(&self, names: [&str; 3]) -> Vec<BareHost> {
        let public = self.key();
        names.iter().map(|name| self.bare_host(name, "debian-12-x64", &public)).collect()
    }

    /// Makes a key and returns its public half.
    pub(crate) fn key(&self) -> String {
        let key = self.directory.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::read_to_string(key.with_extension("pub")).unwrap()
    }

    /// Makes one.
    pub(crate) fn bare_host(&self, name: &str, image: &str, public_key: &str) -> BareHost {
        let droplet = block_on(async {
            let client = self.client();
            let fingerprint = client.ensure_ssh_key("bare", public_key).await.unwrap().value.fingerprint;
            let spec = DropletSpec {
                cluster: "bare".into(),
                name: name.into(),
                region: "fra1".into(),
                size: "s-1vcpu-1gb".into(),
                image: image.into(),
                ssh_keys: vec![fingerprint],
                user_data: None,
                vpc_uuid: None,
            };
            let made = client.ensure_droplet(&spec, Pace::urgent()).await.unwrap();
            client.wait_droplet_ready(made.value.id, Pace::urgent()).await.unwrap()
        });
        let mut host = BareHost {
            name: name.into(),
            address: droplet.public_ipv4().unwrap().to_string(),
            private: droplet.private_ipv4().unwrap().to_string(),
            key: String::new(),
        };
        let begun = Instant::now();
        while !self
            .try_bare_ssh(&host, "cloud-init status --wait >/dev/null; echo up")
            .stdout
            .starts_with("up")
        {
            assert!(begun.elapsed().as_secs() < 300, "{name} does not come up");
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        // The lab's disks lie open to it, so that the key is not taken from the network on trust.
        let home = format!("/var/lib/cluster-lab/{}/droplets/{}/root", self.name, droplet.id);
        let key = std::fs::read_to_string(format!("{home}/etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
        host.key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        host
    }

    pub(crate) fn try_bare_ssh(&self, host: &BareHost, script: &str) -> Run {
        self.bare_ssh_with(host, script, "")
    }

    /// Runs a shell command on a bare host, with something to read.
    pub(crate) fn bare_ssh_with(&self, host: &BareHost, script: &str, input: impl AsRef<[u8]>) -> Run {
        let options = [
            // For the greeting and the keys as well: a machine that does too much takes its time.
            "ConnectTimeout=30",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ];
        let mut command = super::ssh();
        command
            .args(options.iter().flat_map(|option| ["-o", option]))
            .arg("-i")
            .arg(self.directory.path().join("key"));
        command.arg(format!("root@{}", host.address)).arg(script);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut pipe, input) = (child.stdin.take().unwrap(), input.as_ref().to_owned());
        // One that ends without having read is seen by its exit code.
        let feeder = std::thread::spawn(move || pipe.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = feeder.join();
        output.into()
    }

    /// Runs a shell command on a bare host.
    #[track_caller]
    pub(crate) fn bare_ssh(&self, host: &BareHost, script: &str) -> String {
        let run = self.try_bare_ssh(host, script);
        assert_eq!(run.code, 0, "{}: {script}: {}{}", host.name, run.stdout, run.stderr);
        run.stdout.trim().to_owned()
    }
}
