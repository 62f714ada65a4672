//! Update and condition expressions, typed: every name is aliased, so that none can be a reserved
//! word, and every value is a parameter.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{Attributes, Key, PK};

/// A condition on the stored item.
#[derive(Clone, Debug)]
pub(crate) enum When {
    /// There is an item.
    Exists,
    /// There is no item.
    Absent,
    /// The attribute is this; `None`: it is not there.
    Is(&'static str, Option<AttributeValue>),
    /// The attribute is at most this.
    AtMost(&'static str, AttributeValue),
    /// The attribute is more than this.
    Above(&'static str, AttributeValue),
    /// The attribute is not there or less than this.
    AbsentOrBelow(&'static str, AttributeValue),
}

/// Collects names and values while an expression is written.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: Attributes,
}

impl Parameters {
    fn name(&mut self, name: &str) -> String {
        let alias = format!("#{name}");
        self.names.insert(alias.clone(), name.to_owned());
        alias
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let alias = format!(":{}", self.values.len());
        self.values.insert(alias.clone(), value);
        alias
    }

    /// Names and values as the SDK takes them: DynamoDB refuses empty maps.
    pub(crate) fn into_maps(self) -> (Option<HashMap<String, String>>, Option<Attributes>) {
        (
            Some(self.names).filter(|names| !names.is_empty()),
            Some(self.values).filter(|values| !values.is_empty()),
        )
    }

    /// All of the conditions as one expression; `None` for none.
    pub(crate) fn condition(&mut self, conditions: Vec<When>) -> Option<String> {
        let parts: Vec<String> = conditions
            .into_iter()
            .map(|condition| match condition {
                When::Exists => format!("attribute_exists({})", self.name(PK)),
                When::Absent => format!("attribute_not_exists({})", self.name(PK)),
                When::Is(name, None) => format!("attribute_not_exists({})", self.name(name)),
                When::Is(name, Some(value)) => {
                    format!("{} = {}", self.name(name), self.value(value))
                }
                When::AtMost(name, value) => {
                    format!("{} <= {}", self.name(name), self.value(value))
                }
                When::Above(name, value) => {
                    format!("{} > {}", self.name(name), self.value(value))
                }
                When::AbsentOrBelow(name, value) => {
                    let name = self.name(name);
                    let value = self.value(value);
                    format!("(attribute_not_exists({name}) OR {name} < {value})")
                }
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }
}

/// A change of one item.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) key: Key,
    parameters: Parameters,
    set: Vec<String>,
    remove: Vec<String>,
    add: Vec<String>,
    conditions: Vec<When>,
}

/// An update as DynamoDB takes it.
pub(crate) struct Rendered {
    pub(crate) key: Attributes,
    pub(crate) update: String,
    pub(crate) condition: Option<String>,
    pub(crate) parameters: Parameters,
}

impl Update {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            parameters: Parameters::default(),
            set: Vec::new(),
            remove: Vec::new(),
            add: Vec::new(),
            conditions: Vec::new(),
        }
    }

    pub(crate) fn set(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.parameters.name(name), self.parameters.value(value));
        self.set.push(format!("{name} = {value}"));
        self
    }

    /// Sets the attribute, or removes it where there is no value.
    pub(crate) fn assign(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self.remove(name),
        }
    }

    /// Sets the attribute where it is not there.
    pub(crate) fn set_once(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.parameters.name(name), self.parameters.value(value));
        self.set
            .push(format!("{name} = if_not_exists({name}, {value})"));
        self
    }

    pub(crate) fn remove(mut self, name: &str) -> Self {
        let name = self.parameters.name(name);
        self.remove.push(name);
        self
    }

    /// Adds to a number; one that is not there counts as 0.
    pub(crate) fn add(mut self, name: &str, value: AttributeValue) -> Self {
        let (name, value) = (self.parameters.name(name), self.parameters.value(value));
        self.add.push(format!("{name} {value}"));
        self
    }

    pub(crate) fn when(mut self, condition: When) -> Self {
        self.conditions.push(condition);
        self
    }

    pub(crate) fn render(mut self) -> Rendered {
        let clauses = [
            ("SET", self.set),
            ("REMOVE", self.remove),
            ("ADD", self.add),
        ];
        let update = clauses
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
            .collect::<Vec<_>>()
            .join(" ");
        let condition = self.parameters.condition(self.conditions);
        Rendered {
            key: self.key.attributes(),
            update,
            condition,
            parameters: self.parameters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::n;

    #[test]
    fn an_update_is_written_with_aliases_and_parameters_only() {
        let rendered = Update::new(Key::new("P", "S"))
            .set("ttl", n(1))
            .set_once("c", n(2))
            .remove("x")
            .add("n", n(3))
            .when(When::Exists)
            .when(When::AbsentOrBelow("q", n(4)))
            .when(When::Is("d", None))
            .render();
        assert_eq!(
            rendered.update,
            "SET #ttl = :0, #c = if_not_exists(#c, :1) REMOVE #x ADD #n :2"
        );
        assert_eq!(
            rendered.condition.as_deref(),
            Some(
                "attribute_exists(#pk) AND (attribute_not_exists(#q) OR #q < :3) AND attribute_not_exists(#d)"
            )
        );
        assert_eq!(rendered.parameters.names["#ttl"], "ttl");
        assert_eq!(rendered.parameters.values.len(), 4);
    }
}
