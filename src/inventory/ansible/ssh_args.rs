//! Options for ssh, as in `ansible_ssh_common_args`: how a host is reached, and nothing else.

use super::words;

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SshArgs {
    pub(super) jump: Option<String>,
    pub(super) proxy_command: Option<String>,
    /// Options without effect here: the program has its own.
    pub(super) quiet: Vec<String>,
}

/// Options that do not change where a connection leads or whom it trusts.
const QUIET: &[&str] = &[
    "controlmaster",
    "controlpersist",
    "controlpath",
    "compression",
    "serveraliveinterval",
    "serveralivecountmax",
    "connecttimeout",
    "connectionattempts",
    "loglevel",
];

/// Reads the options.
///
/// # Errors
/// What is not understood, by name, and what to do.
pub(super) fn read(text: &str) -> Result<SshArgs, (String, String)> {
    let unclosed = |_| ("a quote is not closed".to_owned(), "close it".to_owned());
    let mut words = words::plain(text).map_err(unclosed)?.into_iter();
    let mut args = SshArgs::default();
    while let Some(word) = words.next() {
        let mut argument = |attached: &str| {
            let argument = if attached.is_empty() { words.next() } else { Some(attached.to_owned()) };
            let hint = "write what belongs to it";
            argument.ok_or_else(|| (format!("`{word}` has no argument"), hint.to_owned()))
        };
        if let Some(attached) = word.strip_prefix("-J") {
            args.jump = Some(argument(attached)?);
        } else if let Some(attached) = word.strip_prefix("-o") {
            let option = argument(attached)?;
            let (name, value) = option
                .split_once(['=', ' '])
                .map_or((option.as_str(), ""), |(name, value)| (name.trim(), value.trim()));
            match name.to_lowercase().as_str() {
                "proxyjump" => args.jump = Some(value.to_owned()),
                "proxycommand" => args.proxy_command = Some(value.to_owned()),
                "stricthostkeychecking" if ["yes", "ask"].contains(&value) => args.quiet.push(option),
                quiet if QUIET.contains(&quiet) => args.quiet.push(option),
                _ => return Err(refused(name)),
            }
        } else if ["-C", "-q"].contains(&word.as_str()) {
            args.quiet.push(word);
        } else {
            return Err(refused(&word));
        }
    }
    if args.jump.as_deref() == Some("none") {
        args.jump = None;
    }
    if args.jump.is_some() && args.proxy_command.is_some() {
        let hint = "keep the one that reaches the host";
        return Err(("has both ProxyJump and ProxyCommand".into(), hint.into()));
    }
    Ok(args)
}

fn refused(name: &str) -> (String, String) {
    let hint = match name.to_lowercase().as_str() {
        "stricthostkeychecking" | "userknownhostsfile" | "globalknownhostsfile" => {
            "host keys are always checked: log in to each host once, or set `cluster_host_key`, and take the option out"
        }
        "port" | "-p" => "set `ansible_port`",
        "user" | "-l" => "set `ansible_user`",
        "identityfile" | "-i" => "set `ansible_ssh_private_key_file`",
        "forwardagent" | "-a" => "nothing here needs the agent on the hosts: take the option out",
        _ => "ProxyJump and ProxyCommand are understood; take the others out, or give the variable with -e",
    };
    (format!("ssh's option `{name}` is not understood"), hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_or_a_command_is_understood_in_every_spelling() {
        for text in
            ["-J a@b:22", "-Ja@b:22", "-o ProxyJump=a@b:22", "-oProxyJump=a@b:22", "-o 'ProxyJump a@b:22' -C"]
        {
            assert_eq!(read(text).unwrap().jump.as_deref(), Some("a@b:22"), "{text}");
        }
        let args = read("-o ControlMaster=auto -o ProxyCommand=\"ssh -W %h:%p -q a@b\"").unwrap();
        assert_eq!(args.proxy_command.as_deref(), Some("ssh -W %h:%p -q a@b"));
        assert_eq!(args.quiet, ["ControlMaster=auto"]);
        assert_eq!(read("-o ProxyJump=none").unwrap(), SshArgs::default());
    }

    #[test]
    fn any_other_option_is_refused_by_its_name() {
        for (text, name) in [
            ("-o StrictHostKeyChecking=no", "`StrictHostKeyChecking`"),
            ("-p 22", "`-p`"),
            ("-vv", "`-vv`"),
            ("-o", "`-o`"),
            ("-o ProxyCommand='ssh", "quote"),
            ("-J a -o ProxyCommand=b", "both"),
        ] {
            let (message, _) = read(text).unwrap_err();
            assert!(message.contains(name), "{text}: {message}");
        }
    }
}
