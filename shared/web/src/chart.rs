//! Charts as SVG, drawn on the server: no script, and a sentence for those who do not see them.

use std::fmt::Write;

use jiff::Timestamp;
use maud::{Markup, html};

use crate::show;

/// A chart's own units; the page stretches them to the room there is.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// Room above the highest and below the lowest value.
const MARGIN: f64 = 4.0;

/// Values over time that hold until the next one: a balance.
pub(crate) struct Steps<'a> {
    /// What it shows, for a screen reader.
    pub(crate) label: String,
    /// In the order of time.
    pub(crate) points: &'a [(Timestamp, i64)],
    /// The last instant shown.
    pub(crate) until: Timestamp,
    /// How a value reads.
    pub(crate) text: &'a dyn Fn(i64) -> String,
}

#[expect(clippy::cast_precision_loss, reason = "pixels, not money")]
const fn float(value: i64) -> f64 {
    value as f64
}

/// A drawing with its axes around it: the labels are text of the page, and do not stretch.
fn framed(label: &str, ys: [String; 2], xs: [String; 2], drawing: &Markup) -> Markup {
    html! {
        div.plot {
            div.ys aria-hidden="true" { @for y in ys { span { (y) } } }
            svg role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" { (drawing) }
            div.xs aria-hidden="true" { @for x in xs { span { (x) } } }
        }
    }
}

impl Steps<'_> {
    pub(crate) fn draw(&self) -> Markup {
        let Some((&(from, _), &(last_at, _))) = self.points.first().zip(self.points.last()) else {
            return html! {};
        };
        let until = self.until.max(last_at);
        let span = float(until.as_millisecond() - from.as_millisecond()).max(1.0);
        let values = || self.points.iter().map(|&(_, value)| value);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let flat = low == high;
        let range = (float(high) - float(low)).max(1.0);
        let x = |at: Timestamp| float(at.as_millisecond() - from.as_millisecond()) / span * WIDTH;
        let y = |value: i64| {
            // A flat line runs through the middle.
            let share = if flat {
                0.5
            } else {
                (float(value) - float(low)) / range
            };
            HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN)
        };
        let mut line = String::new();
        for (at, &(when, value)) in self.points.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = match at {
                0 => write!(line, "M{:.1} {:.1}", x(when), y(value)),
                _ => write!(line, "H{:.1}V{:.1}", x(when), y(value)),
            };
        }
        let _ = write!(line, "H{WIDTH:.1}");
        let area = format!("{line}V{HEIGHT:.1}H0Z");
        let drawing = html! {
            path.area d=(area) {}
            path.line d=(line) {}
        };
        let ys = if flat {
            [(self.text)(high), String::new()]
        } else {
            [(self.text)(high), (self.text)(low)]
        };
        let xs = [instant(from, span), instant(until, span)];
        framed(&self.label, ys, xs, &drawing)
    }
}

/// An instant at the end of an axis: the day, or the time where the axis is short.
fn instant(at: Timestamp, span_ms: f64) -> String {
    const TWO_DAYS_MS: f64 = 2.0 * 86_400_000.0;
    if span_ms < TWO_DAYS_MS {
        show::clock(at)
    } else {
        show::day(at)
    }
}

/// Counts in even stretches of time, stacked: what went well below what did not.
pub(crate) struct Bars<'a> {
    /// What it shows, for a screen reader.
    pub(crate) label: String,
    /// Names of the parts, lowest first, with the colour each has.
    pub(crate) parts: &'a [(&'static str, &'static str)],
    /// One for each stretch, in the order of time: the parts' counts.
    pub(crate) bars: &'a [Vec<u64>],
    /// When the first stretch begins.
    pub(crate) from: Timestamp,
    /// When the last one ends.
    pub(crate) until: Timestamp,
}

impl Bars<'_> {
    pub(crate) fn draw(&self) -> Markup {
        let total = |bar: &Vec<u64>| bar.iter().sum::<u64>();
        let high = self.bars.iter().map(total).max().unwrap_or(0).max(1);
        let as_float = |value: u64| float(i64::try_from(value).unwrap_or(i64::MAX));
        let width = WIDTH / as_float(self.bars.len().max(1) as u64);
        let scale = (HEIGHT - MARGIN) / as_float(high);
        let mut paths = vec![String::new(); self.parts.len()];
        for (at, bar) in self.bars.iter().enumerate() {
            let x = width * as_float(at as u64);
            let mut top = HEIGHT;
            for (path, &count) in paths.iter_mut().zip(bar) {
                if count == 0 {
                    continue;
                }
                let height = (as_float(count) * scale).max(1.0);
                let inner = (width - 0.4).max(0.4);
                let _ = write!(
                    path,
                    "M{x:.1} {top:.1}h{inner:.1}v-{height:.1}h-{inner:.1}z"
                );
                top -= height;
            }
        }
        let drawing = html! {
            @for ((_, tone), path) in self.parts.iter().zip(&paths) {
                @if !path.is_empty() { path.bar data-tone=(tone) d=(path) {} }
            }
        };
        let xs = [show::clock(self.from), show::clock(self.until)];
        html! {
            (framed(&self.label, [show::count(high), "0".to_owned()], xs, &drawing))
            p.legend { @for (name, tone) in self.parts { span data-tone=(tone) { (name) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_one_value_is_a_line() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let steps = Steps {
            label: "a".to_owned(),
            points: &[(at, i64::MAX), (at, i64::MIN)],
            until: at,
            text: &|value| value.to_string(),
        };
        assert!(!steps.draw().into_string().contains("NaN"));
        let none = Bars {
            label: "b".to_owned(),
            parts: &[("ok", "good")],
            bars: &[],
            from: at,
            until: at,
        };
        assert!(!none.draw().into_string().contains("NaN"));
    }
}
