//! Charts as SVG, drawn on the server: no script, and a sentence for those who do not see them.
//!
//! [`StepChart`] draws values that hold until the next one, [`BarChart`] counts in even intervals of time.

use std::fmt::Write;

use jiff::Timestamp;
use maud::{Markup, html};

use super::format::{format_count, format_day, format_time_of_day};

/// A chart's own units; the page stretches them to the room there is.
const WIDTH: f64 = 600.0;

const HEIGHT: f64 = 120.0;

/// Room above the highest and below the lowest value.
const MARGIN: f64 = 4.0;

/// Values over time that hold until the next one: a balance.
pub(crate) struct StepChart<'a> {
    /// What it shows, for a screen reader.
    pub(crate) label: String,
    /// In the order of time.
    pub(crate) points: &'a [(Timestamp, i64)],
    /// The last instant shown.
    pub(crate) until: Timestamp,
    /// How a value reads.
    pub(crate) format_value: &'a dyn Fn(i64) -> String,
}

#[expect(clippy::cast_precision_loss, reason = "pixels, not money")]
const fn to_f64(value: i64) -> f64 {
    value as f64
}

/// A drawing with its axes around it: the labels are text of the page, and do not stretch.
fn render_frame(
    label: &str,
    y_labels: [String; 2],
    x_labels: [String; 2],
    drawing: &Markup,
) -> Markup {
    html! {
        div.plot {
            div.ys aria-hidden="true" { @for y in y_labels { span { (y) } } }
            svg role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" { (drawing) }
            div.xs aria-hidden="true" { @for x in x_labels { span { (x) } } }
        }
    }
}

impl StepChart<'_> {
    pub(crate) fn render_svg(&self) -> Markup {
        let Some((&(from, _), &(last_at, _))) = self.points.first().zip(self.points.last()) else {
            return html! {};
        };
        let until = self.until.max(last_at);
        let span = to_f64(until.as_millisecond() - from.as_millisecond()).max(1.0);
        let values = || self.points.iter().map(|&(_, value)| value);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let flat = low == high;
        let range = (to_f64(high) - to_f64(low)).max(1.0);
        let x = |at: Timestamp| to_f64(at.as_millisecond() - from.as_millisecond()) / span * WIDTH;
        let y = |value: i64| {
            // A flat line runs through the middle.
            let share = if flat {
                0.5
            } else {
                (to_f64(value) - to_f64(low)) / range
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
            [(self.format_value)(high), String::new()]
        } else {
            [(self.format_value)(high), (self.format_value)(low)]
        };
        let xs = [axis_label(from, span), axis_label(until, span)];
        render_frame(&self.label, ys, xs, &drawing)
    }
}

/// An instant at the end of an axis: the day, or the time where the axis is short.
fn axis_label(at: Timestamp, span_ms: f64) -> String {
    const TWO_DAYS_MS: f64 = 2.0 * 86_400_000.0;
    if span_ms < TWO_DAYS_MS {
        format_time_of_day(at)
    } else {
        format_day(at)
    }
}

/// Counts in even stretches of time, stacked: what went well below what did not.
pub(crate) struct BarChart<'a> {
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

impl BarChart<'_> {
    pub(crate) fn render_svg(&self) -> Markup {
        let total = |bar: &Vec<u64>| bar.iter().sum::<u64>();
        let high = self.bars.iter().map(total).max().unwrap_or(0).max(1);
        let as_float = |value: u64| to_f64(i64::try_from(value).unwrap_or(i64::MAX));
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
        let xs = [
            format_time_of_day(self.from),
            format_time_of_day(self.until),
        ];
        html! {
            (render_frame(&self.label, [format_count(high), "0".to_owned()], xs, &drawing))
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
        let steps = StepChart {
            label: "a".to_owned(),
            points: &[(at, i64::MAX), (at, i64::MIN)],
            until: at,
            format_value: &|value| value.to_string(),
        };
        assert!(!steps.render_svg().into_string().contains("NaN"));
        let none = BarChart {
            label: "b".to_owned(),
            parts: &[("ok", "good")],
            bars: &[],
            from: at,
            until: at,
        };
        assert!(!none.render_svg().into_string().contains("NaN"));
    }
}
