//! The error object of DRP, which REST bodies and error answers carry.

use serde::Serialize;

/// DRP's Error: all five fields are always present, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DrpError {
    /// Type of the object concerned, or empty.
    pub model: String,
    /// Key of the object concerned, or empty.
    pub key: String,
    /// What was attempted, such as `AUTH` or `POST`.
    pub r#type: String,
    /// Human-readable messages.
    pub messages: Vec<String>,
    /// The HTTP status; 400 in an answer to a command.
    pub code: u16,
}

impl DrpError {
    /// Creates an error that concerns no particular object.
    pub fn new(kind: &str, code: u16, message: impl Into<String>) -> Self {
        Self { model: String::new(), key: String::new(), r#type: kind.to_owned(), messages: vec![message.into()], code }
    }

    /// Returns this error with the object it concerns.
    #[must_use]
    pub fn about(mut self, model: &str, key: &str) -> Self {
        model.clone_into(&mut self.model);
        key.clone_into(&mut self.key);
        self
    }

    /// Returns the error as compact JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and a number are always written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_written_in_order() {
        let error = DrpError::new("AUTH", 401, "no credentials").about("users", "bob");
        let expected = r#"{"Model":"users","Key":"bob","Type":"AUTH","Messages":["no credentials"],"Code":401}"#;
        assert_eq!(error.to_json(), expected);
    }
}
