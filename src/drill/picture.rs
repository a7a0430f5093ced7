//! A drill as a picture: who took writes when, for a person to look at. Readable on a light ground and on a dark one,
//! and without telling colours apart: what was accepted is high, what failed is half as high, a standby is a line.

use serde_json::{Value, json};

use super::report::{Report, Strip};
use super::sample::What;
use crate::templates::Template;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
/// Most of the width that labels at the right edge may claim.
const MOST_RIGHT: f64 = 300.0;
const LANE: f64 = 22.0;
const PITCH: f64 = 34.0;
/// Height of a line of labels.
const ROW: f64 = 18.0;
/// Vertical position of the first label.
const TOP: f64 = 88.0;
/// Maximum width of a label's character.
const CHARACTER: f64 = 6.8;
/// Steps of the axis, in seconds.
const STEPS: [f64; 10] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Maps seconds to positions.
struct Scale {
    first: f64,
    last: f64,
    right: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds - self.first) / (self.last - self.first) * (WIDTH - LEFT - self.right)
    }
}

pub fn svg(report: &Report) -> String {
    let ends = || report.lanes.iter().flat_map(|lane| lane.spans.iter());
    let first = ends().map(|it| it.from).fold(0.0, f64::min);
    let last = ends().map(|it| it.to).fold(1.0, f64::max);
    let labels: Vec<(f64, String)> =
        report.events.iter().map(|event| (event.at, format!("{}  {}", event.when(), event.text))).collect();
    let mut scale = Scale { first, last, right: 24.0 };
    let fits = |scale: &Scale| labels.iter().all(|(at, text)| scale.x(*at) + width(text) <= WIDTH);
    while !fits(&scale) && scale.right < MOST_RIGHT {
        scale.right += 4.0;
    }
    let rows = rows(&labels.iter().map(|(at, text)| (scale.x(*at), width(text))).collect::<Vec<_>>());
    let lanes_top = TOP + ROW * (rows.iter().max().copied().unwrap_or(0) + 1) as f64 + 8.0;
    let axis = lanes_top + PITCH * report.lanes.len() as f64;
    let events: Vec<Value> = labels
        .iter()
        .zip(&rows)
        .map(|((at, text), row)| {
            let y = TOP + ROW * *row as f64;
            json!({"x": place(scale.x(*at)), "y": place(y), "baseline": place(y + 12.0), "text": escaped(text)})
        })
        .collect();
    let lanes: Vec<Value> = report
        .lanes
        .iter()
        .enumerate()
        .map(|(number, lane)| draw(lane, &scale, lanes_top + PITCH * number as f64))
        .collect();
    let seconds = &report.seconds;
    let figure =
        |figure: Option<f64>| figure.map_or_else(|| "never".to_owned(), |figure| format!("{figure:.1} s"));
    Template::DrillPicture.render(&json!({
        "width": WIDTH,
        "height": axis + 76.0,
        "title": escaped(&format!("cluster drill --fault {}: {}, {}", report.fault.word(), report.cluster, report.began)),
        "summary": escaped(&format!(
            "cut to a writable node {} · to a write through {} {} · to redundancy {}",
            figure(seconds.cut_to_writable), report.address, figure(seconds.cut_to_address),
            figure(seconds.cut_to_redundancy),
        )),
        "counts": escaped(&format!(
            "through the address {} writes acknowledged, {} refused, {} not answered, {} lost · longest gap {:.1} s",
            report.writes.acknowledged, report.writes.refused + report.writes.standby, report.writes.unanswered,
            report.writes.lost.map_or("unknown".to_owned(), |lost| lost.to_string()), seconds.longest_write_gap,
        )),
        "alarm": report.problems.first().map(|problem| escaped(problem)),
        "left": LEFT,
        "label": LEFT - 12.0,
        "right": place(WIDTH - scale.right),
        "axis": axis,
        "below": axis + 18.0,
        "legend": axis + 52.0,
        "events": events,
        "lanes": lanes,
        "ticks": ticks(&scale),
    }))
}

fn draw(lane: &Strip, scale: &Scale, y: f64) -> Value {
    let label = match lane.kind {
        "address" => format!("writes {}", lane.name),
        "node" => format!("writes {}", lane.name),
        _ => format!("reads {}", lane.name),
    };
    let spans: Vec<Value> = lane
        .spans
        .iter()
        .map(|span| {
            let (class, high) = match span.what {
                What::Accepted => ("accepted", LANE),
                What::Refused => ("refused", LANE / 2.0),
                What::Silent => ("silent", LANE / 2.0),
                What::Standby => ("standby", 4.0),
            };
            let (from, to) = (scale.x(span.from), scale.x(span.to));
            // Whoever answers by the address is worth a word, where there is room for it.
            let node = span.node.as_ref().filter(|node| {
                lane.kind == "address" && to - from > width(node) + 12.0
            });
            json!({
                "class": class, "x": place(from), "y": place(y + (LANE - high) / 2.0),
                "width": place((to - from).max(0.5)), "height": high,
                "node": node.map(|node| escaped(node)), "name": place(from + 8.0), "baseline": place(y + 15.5),
            })
        })
        .collect();
    json!({"label": escaped(&label), "baseline": place(y + 15.5), "spans": spans})
}

fn ticks(scale: &Scale) -> Vec<Value> {
    let room = |step: f64| (scale.x(step) - scale.x(0.0)) >= 56.0;
    let step = STEPS.into_iter().find(|step| room(*step)).unwrap_or(600.0);
    let mut number = (scale.first / step).ceil();
    let mut ticks = Vec::new();
    while number * step <= scale.last {
        let seconds = number * step;
        // No minus in front of nothing.
        let text = if seconds == 0.0 { "0 s".to_owned() } else { format!("{seconds} s") };
        ticks.push(json!({"x": place(scale.x(seconds)), "text": text}));
        number += 1.0;
    }
    ticks
}

/// The line of each label, so that no label lies on another and no event's line runs through one. Labels stand to the
/// right of their lines; lines run downwards.
fn rows(labels: &[(f64, f64)]) -> Vec<usize> {
    let mut rows: Vec<usize> = Vec::new();
    for (number, (x, _)) in labels.iter().enumerate() {
        let over = labels[..number].iter().zip(&rows).filter(|((from, width), _)| *x < from + width);
        let row = over.map(|(_, row)| row + 1).max().unwrap_or(0);
        rows.push(row);
    }
    rows
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER + 10.0
}

/// A tenth of a pixel is enough.
fn place(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A label lies in a line of its own as far as it reaches, and the lines of events to its right that would run
        /// through it begin below it.
        #[test]
        fn labels_and_lines_keep_out_of_each_others_way(
            mut labels in prop::collection::vec((0.0..800.0f64, 30.0..250.0f64), 0..8)
        ) {
            labels.sort_by(|a, b| a.0.total_cmp(&b.0));
            let rows = rows(&labels);
            for (left, (x, width)) in labels.iter().enumerate() {
                for (right, (other, _)) in labels.iter().enumerate().skip(left + 1) {
                    prop_assert!(*other >= x + width || rows[right] > rows[left]);
                }
            }
        }
    }
}
