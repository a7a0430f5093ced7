//! Host patterns: `pg[1:3]`, `pg[a:c].example.com`, `pg[01:10:2]`, each with a port if one follows.

/// More hosts than this are a typing error, and would fill the memory.
const MOST: usize = 10_000;

/// The hosts of a pattern, and the port that follows it.
pub(super) fn hosts(pattern: &str) -> Result<(Vec<String>, Option<u16>), String> {
    let (names, port) = with_port(pattern);
    let mut hosts = Vec::new();
    expand(names, &mut hosts)?;
    Ok((hosts, port))
}

/// A port stands behind the last colon outside of brackets, if there is no other: else it is an IPv6 address.
fn with_port(pattern: &str) -> (&str, Option<u16>) {
    let whole = (pattern, None);
    let Some((name, port)) = pattern.rsplit_once(':') else { return whole };
    let Ok(port) = port.parse::<u16>() else { return whole };
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'))
        && !address.contains(['[', ']'])
        && address.parse::<std::net::Ipv6Addr>().is_ok()
    {
        return (address, Some(port));
    }
    let mut depth = 0_usize;
    for character in name.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => return whole,
            _ => {}
        }
    }
    if depth == 0 { (name, Some(port)) } else { whole }
}

fn expand(pattern: &str, hosts: &mut Vec<String>) -> Result<(), String> {
    let Some((head, rest)) = pattern.split_once('[') else {
        hosts.push(pattern.to_owned());
        return Ok(());
    };
    let Some((range, tail)) = rest.split_once(']') else {
        return Err(format!("`{pattern}` has a `[` without its `]`"));
    };
    for part in parts(range).map_err(|why| format!("`[{range}]` {why}"))? {
        expand(&format!("{head}{part}{tail}"), hosts)?;
        if hosts.len() > MOST {
            return Err(format!("`{pattern}` names more than {MOST} hosts"));
        }
    }
    Ok(())
}

/// The parts that a range stands for: begin, end and step.
fn parts(range: &str) -> Result<Vec<String>, &'static str> {
    let bounds: Vec<&str> = range.split(':').collect();
    let (begin, end, step) = match bounds[..] {
        [begin, end] => (begin, end, 1),
        [begin, end, step] => {
            let step = step.parse::<usize>().ok().filter(|step| *step > 0);
            (begin, end, step.ok_or("has a step that is not a whole number")?)
        }
        _ => return Err("is not a range: write [begin:end] or [begin:end:step]"),
    };
    let begin = if begin.is_empty() { "0" } else { begin };
    if end.is_empty() {
        return Err("has no end");
    }
    // As many digits as are written, if they begin with a zero.
    let width = if begin.len() > 1 && begin.starts_with('0') { begin.len() } else { 0 };
    if width > 0 && width != end.len() {
        return Err("has ends of different lengths");
    }
    let letters: String = ('a'..='z').chain('A'..='Z').collect();
    let place = |text: &str| if text.len() == 1 { letters.find(text) } else { None };
    if let (Some(first), Some(last)) = (place(begin), place(end)) {
        if first > last {
            return Err("ends before it begins");
        }
        return Ok(letters[first..=last].chars().step_by(step).map(String::from).collect());
    }
    let number = |text: &str| text.parse::<u64>().map_err(|_| "needs two numbers, or two letters");
    let (first, last) = (number(begin)?, number(end)?);
    Ok((first..=last).step_by(step).take(MOST + 1).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        hosts(pattern).unwrap_or_else(|error| panic!("{error}")).0
    }

    #[test]
    fn ranges_have_numbers_or_letters_and_steps() {
        assert_eq!(names("pg1"), ["pg1"]);
        assert_eq!(names("pg[1:3]"), ["pg1", "pg2", "pg3"]);
        assert_eq!(names("pg[:1]"), ["pg0", "pg1"]);
        assert_eq!(names("pg[a:c].x"), ["pga.x", "pgb.x", "pgc.x"]);
        assert_eq!(names("pg[y:B]"), ["pgy", "pgz", "pgA", "pgB"]);
        assert_eq!(names("[01:10:4]"), ["01", "05", "09"]);
        assert_eq!(names("r[1:2]h[a:b]"), ["r1ha", "r1hb", "r2ha", "r2hb"]);
        assert_eq!(names("pg[3:1]"), [""; 0]);
        for pattern in ["pg[1]", "pg[1:", "pg[1:]", "pg[01:3]", "pg[c:a]", "pg[1:3:0]", "pg[1:c]", "pg[1-3]"]
        {
            assert!(hosts(pattern).is_err(), "{pattern}");
        }
        assert!(hosts("pg[1:999999]").is_err());
        assert!(hosts("p[1:200]g[1:200]").is_err());
    }

    #[test]
    fn a_port_follows_a_name_and_not_an_ipv6_address() {
        assert_eq!(hosts("pg1:2222"), Ok((vec!["pg1".into()], Some(2222))));
        assert_eq!(hosts("pg[1:2]:22"), Ok((vec!["pg1".into(), "pg2".into()], Some(22))));
        assert_eq!(hosts("2001:db8::1"), Ok((vec!["2001:db8::1".into()], None)));
        assert_eq!(hosts("[2001:db8::1]:22"), Ok((vec!["2001:db8::1".into()], Some(22))));
    }

    proptest! {
        /// A range has as many hosts as it has steps, all different, each between its ends.
        #[test]
        fn a_range_has_every_host_once(first in 0_u64..500, more in 0_u64..500, step in 1_u64..7, wide in any::<bool>()) {
            let last = first + more;
            let width = if wide { 4 } else { 0 };
            let found = names(&format!("pg[{first:0width$}:{last:0width$}:{step}]-x"));
            let wanted: Vec<String> =
                (0..=more / step).map(|index| format!("pg{:0width$}-x", first + index * step)).collect();
            prop_assert_eq!(found, wanted);
        }

        /// No pattern makes it fail in another way than with an error.
        #[test]
        fn any_pattern_is_read_or_refused(pattern in "[a-c0-2:\\[\\]]{0,12}") {
            let _ = hosts(&pattern);
        }
    }
}
