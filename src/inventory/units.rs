//! Times and sizes as PostgreSQL's own settings spell them, so that one file has one spelling: `9s`, `500ms`, `16MB`.
//! A unit is required: of a bare number nobody would know what it means.

/// Milliseconds; none if `text` is not a time.
pub(super) fn time(text: &str) -> Option<u64> {
    with_unit(text, &[("ms", 1), ("s", 1000), ("min", 60_000)])
}

/// Seconds of a time that is long; none if `text` is no such time.
pub(super) fn span(text: &str) -> Option<u64> {
    with_unit(text, &[("min", 60), ("h", 3_600), ("d", 86_400)])
}

/// The same, in the largest unit that shows it whole.
pub(super) fn span_text(seconds: u64) -> String {
    in_units(seconds, &[("d", 86_400), ("h", 3_600), ("min", 60)])
}

/// Bytes; none if `text` is not a size. As in PostgreSQL, a kB has 1024 of them.
pub(super) fn size(text: &str) -> Option<u64> {
    with_unit(text, &[("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30)])
}

/// A time in the largest unit that shows it whole.
pub(crate) fn time_text(millis: u64) -> String {
    in_units(millis, &[("min", 60_000), ("s", 1000), ("ms", 1)])
}

/// A size in the largest unit that shows it whole; what is no whole kB is rounded down to one.
pub(super) fn size_text(bytes: u64) -> String {
    in_units(bytes, &[("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)])
}

fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor));
    let (unit, factor) = whole.or(units.last()).expect("there are units");
    format!("{}{unit}", amount / factor)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_postgresql_spells_them() {
        for (text, millis) in
            [("9s", Some(9_000)), ("6500ms", Some(6_500)), ("1min", Some(60_000)), ("9 s", Some(9_000))]
        {
            assert_eq!(time(text), millis, "{text}");
        }
        for text in ["9", "", "s", "9S", "-9s", "9.5s", "99999999999999999999s", "18446744073709551615min"] {
            assert_eq!(time(text), None, "{text}");
        }
        for text in ["9s", "6500ms", "1min", "75s", "0ms"] {
            assert_eq!(time_text(time(text).unwrap()), text);
        }
        for text in ["16MB", "512kB", "3GB"] {
            assert_eq!(size_text(size(text).unwrap()), text);
        }
        for text in ["7d", "12h", "90min"] {
            assert_eq!(span_text(span(text).unwrap()), text);
        }
        for text in ["7", "7s", "1w", "1.5d", "99999999999999999d"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(size("16MB"), Some(16 << 20));
        assert_eq!(size("512kB"), Some(512 << 10));
        for text in ["16", "16MiB", "16mb", "MB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
