//! The body of a webhook as a page shows it: indented, and cut where it is long.

use crate::components::format::format_count;

/// Bytes of a body that are shown, so that the page stays below 100 KB.
const MAX_BODY_BYTES_SHOWN: usize = 48 * 1024;

/// JSON with its members in their order, one on each line.
pub(crate) fn indent_json(json: &[u8]) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let json = String::from_utf8_lossy(json);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            text.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                text.push(letter);
                if matches!(letters.peek(), Some('}' | ']')) {
                    text.extend(letters.next());
                } else {
                    depth += 1;
                    begin_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                begin_line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(',');
                begin_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            '"' => {
                quoted = true;
                text.push('"');
            }
            _ => text.push(letter),
        }
    }
    text
}

/// Begins a new line, indented by so many levels.
fn begin_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

/// The beginning of a body, and how many bytes of it are left out.
pub(crate) fn truncate_body(body: &str) -> String {
    if body.len() <= MAX_BODY_BYTES_SHOWN {
        return body.to_owned();
    }
    let end = body.floor_char_boundary(MAX_BODY_BYTES_SHOWN);
    format!(
        "{}\n… and {} bytes more",
        &body[..end],
        format_count(body.len() - end)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_order() {
        let check = |json: &str, expected: &str| assert_eq!(indent_json(json.as_bytes()), expected);
        check("{}", "{}");
        check("[]", "[]");
        check(r#"{"b":1,"a":[]}"#, "{\n  \"b\": 1,\n  \"a\": []\n}");
        check(r#"["{,:\"}\\",2]"#, "[\n  \"{,:\\\"}\\\\\",\n  2\n]");
    }

    #[test]
    fn a_long_body_is_cut_between_letters() {
        let long = "ä".repeat(MAX_BODY_BYTES_SHOWN);
        let shown = truncate_body(&long);
        assert!(shown.len() < MAX_BODY_BYTES_SHOWN + 100);
        assert!(shown.ends_with("bytes more"));
    }
}
