//! Parts of pages: empty states, figures, tables and choices.

use maud::{Markup, html};

/// In place of an empty list: what it would hold, and what to do next.
pub(crate) fn render_empty_state(title: &str, guidance: &Markup) -> Markup {
    html! { div.empty { h2 { (title) } (guidance) } }
}

/// A number with its name, as a link to the list behind it.
pub(crate) fn render_figure(name: &str, value: &str, note: &str, href: &str) -> Markup {
    html! {
        a.figure href=(href) {
            span.name { (name) }
            span.value { (value) }
            @if !note.is_empty() { span.note { (note) } }
        }
    }
}

/// A table that scrolls in itself where it is wider than the screen.
pub(crate) fn render_table(label: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table {
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}

/// A choice among named values, the first of which chooses none.
pub(crate) fn render_select(
    name: &str,
    placeholder: &str,
    options: &[(&str, &str)],
    selected_value: Option<&str>,
) -> Markup {
    html! {
        select name=(name) aria-label=(placeholder) {
            option value="" { (placeholder) }
            @for (value, text) in options {
                option value=(value) selected[selected_value == Some(*value)] { (text) }
            }
        }
    }
}
