//! A drill's report for a person at a terminal.

use std::fmt::Write as _;

use owo_colors::OwoColorize as _;

use super::report::{Report, SPLIT_BRAIN, Strip, Writes};
use super::sample::What;
use crate::report::visible;

/// The widest strip, in characters.
const WIDTH: f64 = 72.0;
/// What one character of a strip may stand for, in seconds.
const SCALES: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0];

/// The report, coloured.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let title = format!("{}: drill {}", report.cluster, report.fault.word());
    let end = match &report.new_primary {
        Some(new) if *new == report.old_primary => format!("{new} recovered by itself"),
        Some(new) => format!("{new} took over from {}", report.old_primary),
        None => format!("nobody took over from {}", report.old_primary),
    };
    writeln!(out, "{}, {} ({end})", title.bold(), report.began)?;
    for problem in report.problems.iter().filter(|problem| problem.starts_with(SPLIT_BRAIN)) {
        writeln!(out, "{}", visible(problem).red().bold())?;
    }
    writeln!(out)?;
    let seconds = &report.seconds;
    let mut line = |what: &str, figure: Option<f64>| {
        let figure = figure.map_or("never".into(), |figure| format!("{figure:.1} s"));
        writeln!(out, "  {what:<52}{figure:>9}")
    };
    line("from the cut to a writable node", seconds.cut_to_writable)?;
    line(&format!("from the cut to a write through {}", report.address), seconds.cut_to_address)?;
    if let Some(put_back) = seconds.cut_to_put_back {
        let remedy = report.fault.remedy(&report.old_primary).unwrap_or_default();
        line(&format!("from the cut until {remedy}"), Some(put_back))?;
    }
    line("from the cut until redundancy is restored", seconds.cut_to_redundancy)?;
    line("longest time without a write through the address", Some(seconds.longest_write_gap))?;
    writeln!(out)?;
    let width =
        report.address.len().max(report.direct.keys().map(String::len).max().unwrap_or(0) + 3).max(14);
    writeln!(
        out,
        "  {:<width$}  {:>9}  {:>12}  {:>7}  {:>9}  {:>7}  {:>4}",
        "writes through", "attempted", "acknowledged", "refused", "no answer", "standby", "lost"
    )?;
    let mut row = |name: &str, writes: &Writes| {
        let lost = writes.lost.map_or("?".to_owned(), |lost| lost.to_string());
        writeln!(
            out,
            "  {name:<width$}  {:>9}  {:>12}  {:>7}  {:>9}  {:>7}  {lost:>4}",
            writes.attempted, writes.acknowledged, writes.refused, writes.unanswered, writes.standby
        )
    };
    row(&report.address, &report.writes)?;
    for (node, writes) in &report.direct {
        row(node, writes)?;
    }
    let reads = &report.reads;
    writeln!(
        out,
        "  reads on {}: {} of {} answered, longest gap {:.1} s",
        reads.node, reads.answered, reads.attempted, reads.longest_gap
    )?;
    let lost: Vec<String> = std::iter::once(&report.writes)
        .chain(report.direct.values())
        .flat_map(|writes| writes.lost_numbers.iter().map(u64::to_string))
        .collect();
    if !lost.is_empty() {
        writeln!(out, "  lost: {}", lost.join(", "))?;
    }
    writeln!(out)?;
    strips(report, out)?;
    writeln!(out)?;
    for note in &report.notes {
        writeln!(out, "{} {}", "note:".bold(), visible(note))?;
    }
    for problem in &report.problems {
        writeln!(out, "{} {}", "problem:".red().bold(), visible(problem))?;
    }
    if report.passed {
        writeln!(out, "{}", "passed".green().bold())?;
    }
    Ok(())
}

/// One line a client, one character a piece of time, and the events below.
fn strips(report: &Report, out: &mut String) -> std::fmt::Result {
    let ends = || report.lanes.iter().flat_map(|lane| lane.spans.iter());
    let first = ends().map(|it| it.from).fold(0.0, f64::min);
    let last = ends().map(|it| it.to).fold(0.0, f64::max);
    let scale = SCALES.into_iter().find(|scale| (last - first) / scale <= WIDTH).unwrap_or(120.0);
    // The cut stands at the edge of a character.
    let begin = (first / scale).floor();
    let columns = ((last / scale).ceil() - begin) as usize;
    let label = |lane: &Strip| match lane.kind {
        "reads" => format!("reads {}", lane.name),
        _ => lane.name.clone(),
    };
    let width = report.lanes.iter().map(|lane| label(lane).len()).max().unwrap_or(0);
    for lane in &report.lanes {
        let line: String = (0..columns)
            .map(|column| {
                let from = (begin + column as f64) * scale;
                character(lane, from, from + scale)
            })
            .collect();
        writeln!(out, "  {:<width$}  {line}", label(lane))?;
    }
    let mut marks = vec![' '; columns + 1];
    let mut legend = Vec::new();
    for (number, event) in report.events.iter().enumerate() {
        let sign = char::from_digit(number as u32 + 1, 10).unwrap_or('*');
        let column = ((event.at / scale).floor() - begin).max(0.0) as usize;
        // Two in one place stand side by side.
        let free = (column..=columns).find(|column| marks[*column] == ' ');
        if let Some(free) = free {
            marks[free] = sign;
        }
        legend.push(format!("{sign} {:>8}  {}", event.when(), event.text));
    }
    let marks: String = marks.into_iter().collect();
    writeln!(out, "  {:<width$}  {}", "", marks.trim_end())?;
    for line in legend {
        writeln!(out, "  {:<width$}  {line}", "")?;
    }
    writeln!(
        out,
        "  {:<width$}  # accepted, x refused or not answered, - a standby; a character is {scale} s",
        ""
    )
}

/// What a lane was for most of a piece of time.
fn character(lane: &Strip, from: f64, to: f64) -> char {
    let mut most = (0.0, ' ');
    for span in &lane.spans {
        let shared = span.to.min(to) - span.from.max(from);
        let sign = match span.what {
            What::Accepted => '#',
            What::Standby => '-',
            What::Refused | What::Silent => 'x',
        };
        if shared > most.0 {
            most = (shared, sign);
        }
    }
    most.1
}
