//! Charts as SVG, drawn on the server: no script, and a sentence for those who do not see them.
//!
//! [`StepChart`] draws values that hold until the next one, [`BarChart`] counts in even intervals of time.

use std::fmt::Write;

use jiff::Timestamp;
use maud::{Markup, html};

use super::format::{format_count, format_day, format_time_of_day};

/// A chart's own units; the page stretches them to the space there is.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// Space above the highest and below the lowest value.
const MARGIN: f64 = 4.0;

/// Values over time, each of which holds until the next one: a balance.
pub(crate) struct StepChart<'a> {
    /// What the chart shows, for a screen reader.
    pub(crate) label: String,
    /// In the order of time.
    pub(crate) points: &'a [(Timestamp, i64)],
    /// The last instant shown.
    pub(crate) until: Timestamp,
    /// How a value reads.
    pub(crate) format_value: &'a dyn Fn(i64) -> String,
}

#[expect(clippy::cast_precision_loss, reason = "pixels, not money")]
const fn to_pixels(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "pixels, not money")]
const fn count_to_pixels(count: u64) -> f64 {
    count as f64
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

/// Where instants and values are drawn.
struct StepScale {
    from: Timestamp,
    span_ms: f64,
    low: i64,
    high: i64,
}

impl StepScale {
    fn x_of(&self, at: Timestamp) -> f64 {
        to_pixels(at.as_millisecond() - self.from.as_millisecond()) / self.span_ms * WIDTH
    }

    fn y_of(&self, value: i64) -> f64 {
        // Subtracted as floats: the difference of two amounts may be more than an `i64` holds.
        let range = (to_pixels(self.high) - to_pixels(self.low)).max(1.0);
        let part = match self.is_flat() {
            // A flat line runs through the middle.
            true => 0.5,
            false => (to_pixels(value) - to_pixels(self.low)) / range,
        };
        HEIGHT - MARGIN - part * (HEIGHT - 2.0 * MARGIN)
    }

    const fn is_flat(&self) -> bool {
        self.low == self.high
    }
}

impl StepChart<'_> {
    pub(crate) fn render_svg(&self) -> Markup {
        let Some((&(from, first), &(last_at, _))) = self.points.first().zip(self.points.last())
        else {
            return html! {};
        };
        let until = self.until.max(last_at);
        let values = self.points.iter().map(|&(_, value)| value);
        let scale = StepScale {
            from,
            span_ms: to_pixels(until.as_millisecond() - from.as_millisecond()).max(1.0),
            low: values.clone().min().unwrap_or(first),
            high: values.max().unwrap_or(first),
        };
        let mut line = String::new();
        for (at, &(when, value)) in self.points.iter().enumerate() {
            let (x, y) = (scale.x_of(when), scale.y_of(value));
            // Writing to a string does not fail.
            let _ = match at {
                0 => write!(line, "M{x:.1} {y:.1}"),
                _ => write!(line, "H{x:.1}V{y:.1}"),
            };
        }
        let _ = write!(line, "H{WIDTH:.1}");
        let area = format!("{line}V{HEIGHT:.1}H0Z");
        let drawing = html! {
            path.area d=(area) {}
            path.line d=(line) {}
        };
        let lowest = match scale.is_flat() {
            true => String::new(),
            false => (self.format_value)(scale.low),
        };
        let ys = [(self.format_value)(scale.high), lowest];
        let xs = [from, until].map(|at| format_axis_end(at, scale.span_ms));
        render_frame(&self.label, ys, xs, &drawing)
    }
}

/// An instant at the end of an axis: the day, or the time where the axis is short.
fn format_axis_end(at: Timestamp, span_ms: f64) -> String {
    const TWO_DAYS_MS: f64 = 2.0 * 86_400_000.0;
    if span_ms < TWO_DAYS_MS {
        format_time_of_day(at)
    } else {
        format_day(at)
    }
}

/// Counts in even intervals of time, stacked: what went well below what did not.
pub(crate) struct BarChart<'a> {
    /// What the chart shows, for a screen reader.
    pub(crate) label: String,
    /// Names of the parts, lowest first, with the colour each has.
    pub(crate) parts: &'a [(&'static str, &'static str)],
    /// One bar for each interval, in the order of time: the parts' counts.
    pub(crate) bars: &'a [Vec<u64>],
    /// When the first interval begins.
    pub(crate) from: Timestamp,
    /// When the last one ends.
    pub(crate) until: Timestamp,
}

impl BarChart<'_> {
    pub(crate) fn render_svg(&self) -> Markup {
        let totals = self.bars.iter().map(|bar| bar.iter().sum::<u64>());
        let high = totals.max().unwrap_or(0).max(1);
        let paths = self.draw_parts(high);
        let drawing = html! {
            @for ((_, tone), path) in self.parts.iter().zip(&paths) {
                @if !path.is_empty() { path.bar data-tone=(tone) d=(path) {} }
            }
        };
        let xs = [self.from, self.until].map(format_time_of_day);
        html! {
            (render_frame(&self.label, [format_count(high), "0".to_owned()], xs, &drawing))
            p.legend { @for (name, tone) in self.parts { span data-tone=(tone) { (name) } } }
        }
    }

    /// The path of each part, where the highest bar is `high`.
    fn draw_parts(&self, high: u64) -> Vec<String> {
        let width = WIDTH / count_to_pixels(self.bars.len().max(1) as u64);
        let inner = (width - 0.4).max(0.4);
        let scale = (HEIGHT - MARGIN) / count_to_pixels(high);
        let mut paths = vec![String::new(); self.parts.len()];
        for (at, bar) in self.bars.iter().enumerate() {
            let x = width * count_to_pixels(at as u64);
            let mut top = HEIGHT;
            for (path, &count) in paths.iter_mut().zip(bar) {
                if count == 0 {
                    continue;
                }
                let height = (count_to_pixels(count) * scale).max(1.0);
                // Writing to a string does not fail.
                let _ = write!(
                    path,
                    "M{x:.1} {top:.1}h{inner:.1}v-{height:.1}h-{inner:.1}z"
                );
                top -= height;
            }
        }
        paths
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
