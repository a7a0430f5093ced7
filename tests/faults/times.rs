//! The time series: the same fault again and again, and the medians and maxima of what it cost.

use cluster_contract::Millis;
use serde_json::json;

use crate::matrix;
use crate::rows;
use crate::stage::Stage;
use crate::trial::Seen;

/// A series.
#[derive(Clone, Copy)]
pub(crate) struct Series {
    /// The row that is played.
    pub(crate) row: &'static str,
    /// The aim, in milliseconds, from the cut to a writable node, or for the gap of a switchover; 0 without one.
    pub(crate) aim: Millis,
}

/// All series.
pub(crate) const SERIES: &[Series] = &[
    Series { row: "killed", aim: 5_000 },
    Series { row: "powered-off", aim: 8_000 },
    Series { row: "powered-off-api-away", aim: 15_000 },
    Series { row: "isolated", aim: 15_000 },
    Series { row: "frozen", aim: 15_000 },
    Series { row: "switchover-under-load", aim: 3_000 },
];

/// Those that `SERIES` names: any row may be one. All, without it.
pub(crate) fn chosen() -> Vec<Series> {
    let Ok(names) = std::env::var("SERIES") else { return SERIES.to_vec() };
    let named = |name: &str| {
        let known = SERIES.iter().find(|it| it.row == name).copied();
        known.unwrap_or_else(|| Series { row: rows::named(name).name, aim: 0 })
    };
    names.split(',').map(named).collect()
}

/// The middle one, and the largest.
fn middle_and_most(mut values: Vec<Millis>) -> Option<(Millis, Millis)> {
    values.sort_unstable();
    let (half, last) = (values.len() / 2, *values.last()?);
    let middle = if values.len() % 2 == 1 { values[half] } else { values[half - 1].midpoint(values[half]) };
    Some((middle, last))
}

/// Plays every series `runs` times and prints what it cost.
pub(crate) fn play(stage: &Stage, series: &[Series], runs: usize) {
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for series in series {
        let row = rows::named(series.row);
        let rows: Vec<_> = std::iter::repeat_n(row, runs).collect();
        let seen: Vec<Seen> = matrix::play_and_tell(stage, &rows)
            .into_iter()
            .filter_map(|played| played.map_err(|_| failed.push(row.name)).ok())
            .collect();
        let of = |value: fn(&Seen) -> Option<Millis>| {
            middle_and_most(seen.iter().filter_map(value).collect())
                .map_or("-".to_owned(), |(middle, most)| {
                    format!("{:.1} / {:.1}", middle as f64 / 1000.0, most as f64 / 1000.0)
                })
        };
        lines.push(format!(
            "{:<24} {:>4} {:>14} {:>14} {:>14} {:>14} {:>8}",
            series.row,
            seen.len(),
            of(|it| it.writable),
            of(|it| it.address),
            of(|it| it.back),
            of(|it| Some(it.gap)),
            seen.iter().map(|it| it.lost).sum::<usize>(),
        ));
        let most =
            |value: fn(&Seen) -> Option<Millis>| middle_and_most(seen.iter().filter_map(value).collect());
        matrix::write(&json!({
            "series": series.row, "runs": seen.len(), "aim": series.aim,
            "writable": most(|it| it.writable), "address": most(|it| it.address), "back": most(|it| it.back),
            "gap": most(|it| Some(it.gap)), "lost": seen.iter().map(|it| it.lost).sum::<usize>(),
            "detect": most(|it| Some(it.phases?.detect)), "decide": most(|it| Some(it.phases?.decide)),
            "promote": most(|it| Some(it.phases?.promote)), "move": most(|it| Some(it.phases?.address)),
        }));
    }
    println!("\nmedian / maximum, in seconds");
    println!(
        "{:<24} {:>4} {:>14} {:>14} {:>14} {:>14} {:>8}",
        "series", "runs", "writable", "address", "streams again", "write gap", "lost"
    );
    lines.iter().for_each(|line| println!("{line}"));
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[test]
fn the_middle_of_an_even_number_lies_between() {
    assert_eq!(middle_and_most(vec![4, 1, 9]), Some((4, 9)));
    assert_eq!(middle_and_most(vec![4, 1, 9, 6]), Some((5, 9)));
    assert_eq!(middle_and_most(vec![]), None);
}
