//! Options for ssh, as in `ansible_ssh_common_args`: how a host is reached, and nothing else.

use super::words;

/// What a connection goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// Nothing, whatever comes later: `none`.
    Nothing,
    Jump(String),
    Command(String),
}

impl Through {
    /// Whether the two are a jump host and a command. Of two of a kind ssh takes the first.
    pub(super) fn contradicts(&self, other: &Through) -> bool {
        matches!(
            (self, other),
            (Through::Jump(_), Through::Command(_)) | (Through::Command(_), Through::Jump(_))
        )
    }
}

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SshArgs {
    pub(super) through: Option<Through>,
    /// Whether another jump host or command follows, which ssh does not take.
    pub(super) has_later: bool,
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

/// What is wrong, and what to do.
type Refusal = (String, String);

/// Reads the options.
///
/// # Errors
/// What is not understood: by name, or by its number, as it may be a password.
pub(super) fn read(text: &str) -> Result<SshArgs, Refusal> {
    let unclosed = |_| ("a quote is not closed".to_owned(), "close it".to_owned());
    let mut words = words::plain(text).map_err(unclosed)?.into_iter().enumerate();
    let mut args = SshArgs::default();
    while let Some((index, word)) = words.next() {
        let mut argument = |attached: &str| {
            let next = |(_, word)| word;
            let argument =
                if attached.is_empty() { words.next().map(next) } else { Some(attached.to_owned()) };
            let hint = "write what belongs to it";
            argument.ok_or_else(|| (format!("`{word}` has no argument"), hint.to_owned()))
        };
        if let Some(attached) = word.strip_prefix("-J") {
            args.add(&argument(attached)?, Through::Jump)?;
        } else if let Some(attached) = word.strip_prefix("-o") {
            let option = argument(attached)?;
            let Some((name, value)) = option.split_once(['=', ' ']) else {
                return Err(refused(&format!("behind `-o` in word {}", index + 1)));
            };
            let (name, value) = (name.trim(), value.trim());
            match name.to_lowercase().as_str() {
                "proxyjump" => args.add(value, Through::Jump)?,
                "proxycommand" => args.add(value, Through::Command)?,
                "stricthostkeychecking" if ["yes", "ask"].contains(&value) => args.quiet.push(option),
                quiet if QUIET.contains(&quiet) => args.quiet.push(option),
                other if other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                    return Err(refused(&format!("`{name}`")));
                }
                _ => return Err(refused(&format!("behind `-o` in word {}", index + 1))),
            }
        } else if ["-C", "-q"].contains(&word.as_str()) {
            args.quiet.push(word);
        } else if word.starts_with('-') {
            let name: String = word.chars().take(2).collect();
            return Err(refused(&format!("`{name}`")));
        } else {
            let hint = "put quotes around a value that has spaces: -o 'ProxyCommand=ssh -W %h:%p bastion'";
            return Err((format!("word {} is no option of ssh", index + 1), hint.to_owned()));
        }
    }
    Ok(args)
}

impl SshArgs {
    fn add(&mut self, value: &str, form: fn(String) -> Through) -> Result<(), Refusal> {
        let is_none = value.eq_ignore_ascii_case("none");
        let found = if is_none { Through::Nothing } else { form(value.to_owned()) };
        match &self.through {
            None => self.through = Some(found),
            Some(first) if first.contradicts(&found) => {
                let hint = "keep the one that reaches the host";
                return Err(("has both ProxyJump and ProxyCommand".into(), hint.into()));
            }
            Some(first) => self.has_later |= *first != found,
        }
        Ok(())
    }
}

fn refused(option: &str) -> Refusal {
    let hint = match option.trim_matches('`').to_lowercase().as_str() {
        "stricthostkeychecking" | "userknownhostsfile" | "globalknownhostsfile" => {
            "host keys are always checked: log in to each host once, or set `cluster_host_key`, and take the option out"
        }
        "port" | "-p" => "set `ansible_port`",
        "user" | "-l" => "set `ansible_user`",
        "identityfile" | "-i" => "set `ansible_ssh_private_key_file`",
        "forwardagent" | "-a" => "nothing here needs the agent on the hosts: take the option out",
        _ => "ProxyJump and ProxyCommand are understood; take the others out, or give the variable with -e",
    };
    (format!("ssh's option {option} is not understood"), hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_or_a_command_is_understood_in_every_spelling() {
        for text in
            ["-J a@b:22", "-Ja@b:22", "-o ProxyJump=a@b:22", "-oProxyJump=a@b:22", "-o 'ProxyJump a@b:22' -C"]
        {
            assert_eq!(read(text).unwrap().through, Some(Through::Jump("a@b:22".into())), "{text}");
        }
        let args = read("-o ControlMaster=auto -o ProxyCommand=\"ssh -W %h:%p -q a@b\"").unwrap();
        assert_eq!(args.through, Some(Through::Command("ssh -W %h:%p -q a@b".into())));
        assert_eq!(args.quiet, ["ControlMaster=auto"]);
        assert_eq!(read("-o ProxyJump=none").unwrap().through, Some(Through::Nothing));
    }

    #[test]
    fn the_first_jump_host_counts() {
        let jump = |text: &str| Some(Through::Jump(text.into()));
        for (text, through, has_later) in [
            ("-o ProxyJump=a -o ProxyJump=b", jump("a"), true),
            ("-J a -o ProxyJump=none", jump("a"), true),
            ("-J a -J a", jump("a"), false),
            ("-o ProxyJump=none -J a", Some(Through::Nothing), true),
            ("-o ProxyJump=None -o ProxyCommand=b", Some(Through::Nothing), true),
            ("-C", None, false),
        ] {
            let args = read(text).unwrap();
            assert_eq!((args.through, args.has_later), (through, has_later), "{text}");
        }
    }

    #[test]
    fn any_other_option_is_refused_by_its_name() {
        for (text, name) in [
            ("-o StrictHostKeyChecking=no", "`StrictHostKeyChecking`"),
            ("-p 22", "`-p`"),
            ("-vv", "`-v`"),
            ("-o", "`-o`"),
            ("-o ProxyCommand='ssh", "quote"),
            ("-J a -o ProxyCommand=b", "both"),
        ] {
            let (message, _) = read(text).unwrap_err();
            assert!(message.contains(name), "{text}: {message}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_repeated() {
        for text in
            ["-C hunter2", "-phunter2", "-o hunter2", "-o hunter2-x=1", "-o Foo=hunter2", "-o 'a:hunter2 b'"]
        {
            let (message, hint) = read(text).unwrap_err();
            assert!(!format!("{message}{hint}").contains("hunter2"), "{text}: {message}");
        }
    }
}
