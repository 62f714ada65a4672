//! Update and condition expressions, typed: every name is aliased, so that none can be a reserved
//! word, and every value is a parameter.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Attributes, PK, PrimaryKey};
use crate::key::Key;

/// A condition on the stored item.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// There is an item.
    Exists,
    /// There is no item.
    Absent,
    /// The attribute is this; `None`: it is not there.
    Equals(&'static str, Option<AttributeValue>),
    /// The attribute is at most this.
    AtMost(&'static str, AttributeValue),
    /// The attribute is more than this.
    MoreThan(&'static str, AttributeValue),
    /// The attribute is there and less than this.
    Below(&'static str, AttributeValue),
    /// The attribute is not there or less than this.
    AbsentOrBelow(&'static str, AttributeValue),
}

/// Collects names and values while an expression is written.
#[derive(Debug, Default)]
pub(crate) struct ExpressionParameters {
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: Attributes,
}

impl ExpressionParameters {
    fn alias_name(&mut self, name: &str) -> String {
        let alias = format!("#{name}");
        self.names.insert(alias.clone(), name.to_owned());
        alias
    }

    fn alias_value(&mut self, value: AttributeValue) -> String {
        let alias = format!(":{}", self.values.len());
        self.values.insert(alias.clone(), value);
        alias
    }

    /// Names and values as the SDK takes them: DynamoDB rejects empty maps.
    pub(crate) fn into_maps(self) -> (Option<HashMap<String, String>>, Option<Attributes>) {
        (
            Some(self.names).filter(|names| !names.is_empty()),
            Some(self.values).filter(|values| !values.is_empty()),
        )
    }

    /// All of the conditions as one expression; `None` where there are none.
    pub(crate) fn render_conditions(&mut self, conditions: Vec<Condition>) -> Option<String> {
        let parts: Vec<String> = conditions
            .into_iter()
            .map(|condition| self.render_condition(condition))
            .collect();
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }

    fn render_condition(&mut self, condition: Condition) -> String {
        match condition {
            Condition::Exists => format!("attribute_exists({})", self.alias_name(PK)),
            Condition::Absent => format!("attribute_not_exists({})", self.alias_name(PK)),
            Condition::Equals(name, None) => {
                format!("attribute_not_exists({})", self.alias_name(name))
            }
            Condition::Equals(name, Some(value)) => {
                format!("{} = {}", self.alias_name(name), self.alias_value(value))
            }
            Condition::AtMost(name, value) => {
                format!("{} <= {}", self.alias_name(name), self.alias_value(value))
            }
            Condition::MoreThan(name, value) => {
                format!("{} > {}", self.alias_name(name), self.alias_value(value))
            }
            Condition::Below(name, value) => {
                format!("{} < {}", self.alias_name(name), self.alias_value(value))
            }
            Condition::AbsentOrBelow(name, value) => {
                let name = self.alias_name(name);
                let value = self.alias_value(value);
                format!("(attribute_not_exists({name}) OR {name} < {value})")
            }
        }
    }
}

/// A change of one item.
#[derive(Debug)]
pub(crate) struct ItemUpdate {
    key: PrimaryKey,
    parameters: ExpressionParameters,
    set_clauses: Vec<String>,
    remove_clauses: Vec<String>,
    add_clauses: Vec<String>,
    conditions: Vec<Condition>,
}

/// An update as DynamoDB takes it.
pub(crate) struct RenderedUpdate {
    pub(crate) key: Attributes,
    pub(crate) update_expression: String,
    pub(crate) condition_expression: Option<String>,
    pub(crate) parameters: ExpressionParameters,
}

impl ItemUpdate {
    pub(crate) fn new(key: Key<'_>) -> Self {
        Self {
            key: key.into(),
            parameters: ExpressionParameters::default(),
            set_clauses: Vec::new(),
            remove_clauses: Vec::new(),
            add_clauses: Vec::new(),
            conditions: Vec::new(),
        }
    }

    pub(crate) fn set_attribute(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (
            self.parameters.alias_name(name),
            self.parameters.alias_value(value),
        );
        self.set_clauses.push(format!("{name} = {value}"));
        self
    }

    /// Sets the attribute, or removes it where there is no value.
    pub(crate) fn set_or_remove(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set_attribute(name, value),
            None => self.remove_attribute(name),
        }
    }

    /// Sets the attribute where it is not there.
    pub(crate) fn set_if_absent(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (
            self.parameters.alias_name(name),
            self.parameters.alias_value(value),
        );
        self.set_clauses
            .push(format!("{name} = if_not_exists({name}, {value})"));
        self
    }

    pub(crate) fn remove_attribute(mut self, name: &str) -> Self {
        let name = self.parameters.alias_name(name);
        self.remove_clauses.push(name);
        self
    }

    /// Adds to a number; one that is not there counts as 0.
    pub(crate) fn add_to_number(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (
            self.parameters.alias_name(name),
            self.parameters.alias_value(value),
        );
        self.add_clauses.push(format!("{name} {value}"));
        self
    }

    pub(crate) fn with_condition(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    pub(crate) fn render_expressions(mut self) -> RenderedUpdate {
        let clauses = [
            ("SET", self.set_clauses),
            ("REMOVE", self.remove_clauses),
            ("ADD", self.add_clauses),
        ];
        let update = clauses
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
            .collect::<Vec<_>>()
            .join(" ");
        let condition = self.parameters.render_conditions(self.conditions);
        RenderedUpdate {
            key: self.key.into_attributes(),
            update_expression: update,
            condition_expression: condition,
            parameters: self.parameters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::attributes::number_value;

    #[test]
    fn an_update_is_written_with_aliases_and_parameters_only() {
        let rendered = ItemUpdate::new(Key::ShortLink { name: "a1b2" })
            .set_attribute("ttl", number_value(1))
            .set_if_absent("c", number_value(2))
            .remove_attribute("x")
            .add_to_number("n", number_value(3))
            .with_condition(Condition::Exists)
            .with_condition(Condition::AbsentOrBelow("q", number_value(4)))
            .with_condition(Condition::Equals("d", None))
            .render_expressions();
        assert_eq!(
            rendered.update_expression,
            "SET #ttl = :0, #c = if_not_exists(#c, :1) REMOVE #x ADD #n :2"
        );
        assert_eq!(
            rendered.condition_expression.as_deref(),
            Some(
                "attribute_exists(#pk) AND (attribute_not_exists(#q) OR #q < :3) AND attribute_not_exists(#d)"
            )
        );
        assert_eq!(rendered.parameters.names["#ttl"], "ttl");
        assert_eq!(rendered.parameters.values.len(), 4);
    }
}
