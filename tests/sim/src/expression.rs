//! DynamoDB's condition and update expressions, as far as the store writes them; anything else is
//! refused, so that a new form shows itself.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

/// An item: attribute names and typed values (`{"S": "text"}`).
pub(crate) type TableItem = Map<String, Value>;

/// What an expression cannot be or do.
pub(crate) type ExpressionError = String;

/// An expression with its names and values.
pub(crate) struct TableExpression<'a> {
    tokens: Vec<&'a str>,
    position: usize,
    names: Option<&'a Map<String, Value>>,
    values: Option<&'a Map<String, Value>>,
}

fn split_tokens(text: &str) -> Vec<&str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'#' | b':' | b'_');
    let bytes = text.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if is_word(bytes[at]) {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
        } else if matches!(&text[at..text.len().min(at + 2)], "<=" | ">=" | "<>") {
            at += 2;
        } else {
            at += 1;
        }
        tokens.push(&text[start..at]);
    }
    tokens
}

impl<'a> TableExpression<'a> {
    pub(crate) fn new(text: &'a str, request: &'a Value) -> Self {
        Self {
            tokens: split_tokens(text),
            position: 0,
            names: request["ExpressionAttributeNames"].as_object(),
            values: request["ExpressionAttributeValues"].as_object(),
        }
    }

    fn peek_token(&self) -> Option<&'a str> {
        self.tokens.get(self.position).copied()
    }

    fn take_token(&mut self) -> Result<&'a str, ExpressionError> {
        let token = self.peek_token().ok_or("the expression ends too soon")?;
        self.position += 1;
        Ok(token)
    }

    fn accept_token(&mut self, token: &str) -> bool {
        let there = self
            .peek_token()
            .is_some_and(|it| it.eq_ignore_ascii_case(token));
        self.position += usize::from(there);
        there
    }

    fn expect_token(&mut self, token: &str) -> Result<(), ExpressionError> {
        if self.accept_token(token) {
            return Ok(());
        }
        Err(format!("expected {token}, found {:?}", self.peek_token()))
    }

    fn parse_path(&mut self) -> Result<&'a str, ExpressionError> {
        let token = self.take_token()?;
        if !token.starts_with('#') {
            return Ok(token);
        }
        let name = self.names.and_then(|names| names.get(token)?.as_str());
        name.ok_or_else(|| format!("{token} is no name"))
    }

    /// A value, or an attribute's; `None` where the item has none.
    fn parse_operand(&mut self, item: &TableItem) -> Result<Option<Value>, ExpressionError> {
        let token = self.take_token()?;
        if token.starts_with(':') {
            let value = self.values.and_then(|values| values.get(token));
            return value
                .map(|value| Some(value.clone()))
                .ok_or_else(|| format!("{token} is no value"));
        }
        self.position -= 1;
        let path = self.parse_path()?;
        Ok(item.get(path).cloned())
    }

    /// Whether the whole condition holds for an item.
    pub(crate) fn evaluate_condition(mut self, item: &TableItem) -> Result<bool, ExpressionError> {
        let holds = self.evaluate_disjunction(item)?;
        match self.peek_token() {
            None => Ok(holds),
            Some(rest) => Err(format!("{rest} is more than one condition")),
        }
    }

    fn evaluate_disjunction(&mut self, item: &TableItem) -> Result<bool, ExpressionError> {
        let mut holds = self.evaluate_conjunction(item)?;
        while self.accept_token("OR") {
            holds |= self.evaluate_conjunction(item)?;
        }
        Ok(holds)
    }

    fn evaluate_conjunction(&mut self, item: &TableItem) -> Result<bool, ExpressionError> {
        let mut holds = self.evaluate_comparison(item)?;
        while self.accept_token("AND") {
            holds &= self.evaluate_comparison(item)?;
        }
        Ok(holds)
    }

    fn evaluate_comparison(&mut self, item: &TableItem) -> Result<bool, ExpressionError> {
        if self.accept_token("NOT") {
            return Ok(!self.evaluate_comparison(item)?);
        }
        if self.accept_token("(") {
            let holds = self.evaluate_disjunction(item)?;
            self.expect_token(")")?;
            return Ok(holds);
        }
        for (function, there) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if self.accept_token(function) {
                self.expect_token("(")?;
                let path = self.parse_path()?;
                self.expect_token(")")?;
                return Ok(item.contains_key(path) == there);
            }
        }
        for function in ["begins_with", "contains"] {
            if self.accept_token(function) {
                self.expect_token("(")?;
                let (whole, _, part) = (
                    self.parse_operand(item)?,
                    self.expect_token(",")?,
                    self.parse_operand(item)?,
                );
                self.expect_token(")")?;
                let text =
                    |value: &Option<Value>| Some(value.as_ref()?.get("S")?.as_str()?.to_owned());
                return Ok(match (text(&whole), text(&part)) {
                    (Some(whole), Some(part)) if function == "contains" => whole.contains(&part),
                    (Some(whole), Some(part)) => whole.starts_with(&part),
                    _ => false,
                });
            }
        }
        let left = self.parse_operand(item)?;
        if self.accept_token("BETWEEN") {
            let from = self.parse_operand(item)?;
            self.expect_token("AND")?;
            let to = self.parse_operand(item)?;
            let within = |order: Option<Ordering>, not: Ordering| order.is_some_and(|it| it != not);
            return Ok(within(compare_values(&left, &from), Ordering::Less)
                && within(compare_values(&left, &to), Ordering::Greater));
        }
        let sign = self.take_token()?;
        let right = self.parse_operand(item)?;
        let order = compare_values(&left, &right);
        Ok(match sign {
            "=" => left.is_some() && (left == right || order == Some(Ordering::Equal)),
            "<>" => left != right && order != Some(Ordering::Equal),
            "<" => order == Some(Ordering::Less),
            "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            ">" => order == Some(Ordering::Greater),
            ">=" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            other => return Err(format!("{other} compares nothing")),
        })
    }

    /// The item after the update.
    pub(crate) fn apply_update(
        mut self,
        previous_item: &TableItem,
    ) -> Result<TableItem, ExpressionError> {
        let mut after = previous_item.clone();
        while let Some(verb) = self.peek_token() {
            self.position += 1;
            loop {
                let path = self.parse_path()?;
                match verb {
                    "SET" => {
                        self.expect_token("=")?;
                        let value = self.evaluate_sum(previous_item)?;
                        after.insert(path.to_owned(), value);
                    }
                    "REMOVE" => {
                        after.remove(path);
                    }
                    "ADD" => {
                        let by = self.parse_operand(previous_item)?.ok_or("nothing to add")?;
                        let value = match previous_item.get(path) {
                            None => by,
                            Some(old) => add_numbers(old, &by, 1)?,
                        };
                        after.insert(path.to_owned(), value);
                    }
                    other => return Err(format!("{other} is no clause")),
                }
                if !self.accept_token(",") {
                    break;
                }
            }
        }
        Ok(after)
    }

    fn evaluate_sum(&mut self, item: &TableItem) -> Result<Value, ExpressionError> {
        let left = self.evaluate_term(item)?;
        if self.accept_token("+") {
            return add_numbers(&left, &self.evaluate_term(item)?, 1);
        }
        if self.accept_token("-") {
            return add_numbers(&left, &self.evaluate_term(item)?, -1);
        }
        Ok(left)
    }

    fn evaluate_term(&mut self, item: &TableItem) -> Result<Value, ExpressionError> {
        if !self.accept_token("if_not_exists") {
            return self
                .parse_operand(item)?
                .ok_or_else(|| "an attribute that is not there".to_owned());
        }
        self.expect_token("(")?;
        let path = self.parse_path()?;
        self.expect_token(",")?;
        let fallback = self.parse_operand(item)?;
        self.expect_token(")")?;
        let value = item.get(path).cloned().or(fallback);
        value.ok_or_else(|| "an attribute that is not there".to_owned())
    }
}

fn parse_number(value: &Value) -> Option<i128> {
    value.get("N")?.as_str()?.parse().ok()
}

fn add_numbers(left: &Value, right: &Value, sign: i128) -> Result<Value, ExpressionError> {
    match (parse_number(left), parse_number(right)) {
        (Some(left), Some(right)) => Ok(json!({ "N": (left + sign * right).to_string() })),
        _ => Err("only whole numbers are added".to_owned()),
    }
}

/// The order of two values of one type.
fn compare_values(left: &Option<Value>, right: &Option<Value>) -> Option<Ordering> {
    let (left, right) = (left.as_ref()?, right.as_ref()?);
    if let (Some(left), Some(right)) = (parse_number(left), parse_number(right)) {
        return Some(left.cmp(&right));
    }
    let text = |value: &Value| Some(value.get("S")?.as_str()?.to_owned());
    Some(text(left)?.cmp(&text(right)?))
}
