//! What an order says: an object of JSON with fields that are known, each of its type. What is null is absent.

use serde_json::{Map, Value};

/// The fields of a body.
pub(super) struct Body(Map<String, Value>);

impl Body {
    /// Reads one; nothing at all is one without fields.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(bytes: &[u8], known: &[&str]) -> Result<Body, String> {
        if bytes.is_empty() {
            return Ok(Body(Map::new()));
        }
        let body: Value = serde_json::from_slice(bytes).map_err(|e| format!("the body is no JSON: {e}"))?;
        let Value::Object(mut fields) = body else { return Err("the body is no object".to_owned()) };
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("unknown field {name:?}; known: {}", known.join(", ")));
        }
        fields.retain(|_, value| !value.is_null());
        Ok(Body(fields))
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, String> {
        let text = |value: &'_ Value| format!("{name} is {value}; a string is right");
        self.value(name).map(|value| value.as_str().ok_or_else(|| text(value))).transpose()
    }

    /// A text, read as what it stands for.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.text(name)?.map(parse).transpose().map_err(|why| format!("{name}: {why}"))
    }

    /// The same, of a field that must be there.
    pub(super) fn needed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        self.parsed(name, parse)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// A whole number, at least and at most this.
    pub(super) fn number<T: TryFrom<u64> + Into<u64>>(
        &self,
        name: &str,
        (least, most): (T, T),
    ) -> Result<Option<T>, String> {
        let (least, most) = (least.into(), most.into());
        let read = |value: &Value| {
            let number = value.as_u64().filter(|n| (least..=most).contains(n));
            number
                .and_then(|n| T::try_from(n).ok())
                .ok_or_else(|| format!("{name} is {value}; a whole number from {least} to {most} is right"))
        };
        self.value(name).map(read).transpose()
    }
}
