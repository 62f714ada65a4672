//! DynamoDB's condition and update expressions, as far as the store writes them; anything else is
//! refused, so that a new form shows itself.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

/// An item: attribute names and typed values (`{"S": "text"}`).
pub(crate) type Item = Map<String, Value>;

/// What an expression cannot be or do.
pub(crate) type Fault = String;

/// An expression with its names and values.
pub(crate) struct Expression<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    names: Option<&'a Map<String, Value>>,
    values: Option<&'a Map<String, Value>>,
}

fn tokens(text: &str) -> Vec<&str> {
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

impl<'a> Expression<'a> {
    pub(crate) fn new(text: &'a str, request: &'a Value) -> Self {
        Self {
            tokens: tokens(text),
            at: 0,
            names: request["ExpressionAttributeNames"].as_object(),
            values: request["ExpressionAttributeValues"].as_object(),
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self) -> Result<&'a str, Fault> {
        let token = self.peek().ok_or("the expression ends too soon")?;
        self.at += 1;
        Ok(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let there = self.peek().is_some_and(|it| it.eq_ignore_ascii_case(token));
        self.at += usize::from(there);
        there
    }

    fn want(&mut self, token: &str) -> Result<(), Fault> {
        if self.eat(token) {
            return Ok(());
        }
        Err(format!("expected {token}, found {:?}", self.peek()))
    }

    fn path(&mut self) -> Result<&'a str, Fault> {
        let token = self.take()?;
        if !token.starts_with('#') {
            return Ok(token);
        }
        let name = self.names.and_then(|names| names.get(token)?.as_str());
        name.ok_or_else(|| format!("{token} is no name"))
    }

    /// A value, or an attribute's; `None` where the item has none.
    fn operand(&mut self, item: &Item) -> Result<Option<Value>, Fault> {
        let token = self.take()?;
        if token.starts_with(':') {
            let value = self.values.and_then(|values| values.get(token));
            return value
                .map(|value| Some(value.clone()))
                .ok_or_else(|| format!("{token} is no value"));
        }
        self.at -= 1;
        let path = self.path()?;
        Ok(item.get(path).cloned())
    }

    /// Whether the whole condition holds for an item.
    pub(crate) fn holds(mut self, item: &Item) -> Result<bool, Fault> {
        let holds = self.any(item)?;
        match self.peek() {
            None => Ok(holds),
            Some(rest) => Err(format!("{rest} is more than one condition")),
        }
    }

    fn any(&mut self, item: &Item) -> Result<bool, Fault> {
        let mut holds = self.all(item)?;
        while self.eat("OR") {
            holds |= self.all(item)?;
        }
        Ok(holds)
    }

    fn all(&mut self, item: &Item) -> Result<bool, Fault> {
        let mut holds = self.one(item)?;
        while self.eat("AND") {
            holds &= self.one(item)?;
        }
        Ok(holds)
    }

    fn one(&mut self, item: &Item) -> Result<bool, Fault> {
        if self.eat("NOT") {
            return Ok(!self.one(item)?);
        }
        if self.eat("(") {
            let holds = self.any(item)?;
            self.want(")")?;
            return Ok(holds);
        }
        for (function, there) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if self.eat(function) {
                self.want("(")?;
                let path = self.path()?;
                self.want(")")?;
                return Ok(item.contains_key(path) == there);
            }
        }
        for function in ["begins_with", "contains"] {
            if self.eat(function) {
                self.want("(")?;
                let (whole, _, part) = (self.operand(item)?, self.want(",")?, self.operand(item)?);
                self.want(")")?;
                let text =
                    |value: &Option<Value>| Some(value.as_ref()?.get("S")?.as_str()?.to_owned());
                return Ok(match (text(&whole), text(&part)) {
                    (Some(whole), Some(part)) if function == "contains" => whole.contains(&part),
                    (Some(whole), Some(part)) => whole.starts_with(&part),
                    _ => false,
                });
            }
        }
        let left = self.operand(item)?;
        if self.eat("BETWEEN") {
            let from = self.operand(item)?;
            self.want("AND")?;
            let to = self.operand(item)?;
            let within = |order: Option<Ordering>, not: Ordering| order.is_some_and(|it| it != not);
            return Ok(within(compare(&left, &from), Ordering::Less)
                && within(compare(&left, &to), Ordering::Greater));
        }
        let sign = self.take()?;
        let right = self.operand(item)?;
        let order = compare(&left, &right);
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
    pub(crate) fn apply(mut self, before: &Item) -> Result<Item, Fault> {
        let mut after = before.clone();
        while let Some(verb) = self.peek() {
            self.at += 1;
            loop {
                let path = self.path()?;
                match verb {
                    "SET" => {
                        self.want("=")?;
                        let value = self.sum(before)?;
                        after.insert(path.to_owned(), value);
                    }
                    "REMOVE" => {
                        after.remove(path);
                    }
                    "ADD" => {
                        let by = self.operand(before)?.ok_or("nothing to add")?;
                        let value = match before.get(path) {
                            None => by,
                            Some(old) => add(old, &by, 1)?,
                        };
                        after.insert(path.to_owned(), value);
                    }
                    other => return Err(format!("{other} is no clause")),
                }
                if !self.eat(",") {
                    break;
                }
            }
        }
        Ok(after)
    }

    fn sum(&mut self, item: &Item) -> Result<Value, Fault> {
        let left = self.term(item)?;
        if self.eat("+") {
            return add(&left, &self.term(item)?, 1);
        }
        if self.eat("-") {
            return add(&left, &self.term(item)?, -1);
        }
        Ok(left)
    }

    fn term(&mut self, item: &Item) -> Result<Value, Fault> {
        if !self.eat("if_not_exists") {
            return self
                .operand(item)?
                .ok_or_else(|| "an attribute that is not there".to_owned());
        }
        self.want("(")?;
        let path = self.path()?;
        self.want(",")?;
        let fallback = self.operand(item)?;
        self.want(")")?;
        let value = item.get(path).cloned().or(fallback);
        value.ok_or_else(|| "an attribute that is not there".to_owned())
    }
}

fn number(value: &Value) -> Option<i128> {
    value.get("N")?.as_str()?.parse().ok()
}

fn add(left: &Value, right: &Value, sign: i128) -> Result<Value, Fault> {
    match (number(left), number(right)) {
        (Some(left), Some(right)) => Ok(json!({ "N": (left + sign * right).to_string() })),
        _ => Err("only whole numbers are added".to_owned()),
    }
}

/// The order of two values of one type.
fn compare(left: &Option<Value>, right: &Option<Value>) -> Option<Ordering> {
    let (left, right) = (left.as_ref()?, right.as_ref()?);
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Some(left.cmp(&right));
    }
    let text = |value: &Value| Some(value.get("S")?.as_str()?.to_owned());
    Some(text(left)?.cmp(&text(right)?))
}
