//! `json_texts(object, name)`: the texts of a list inside a JSON object.
//!
//! The open properties of an event are columns of JSON text, and the engine without its JSON extension cannot look
//! inside. In ClickHouse the same is `arrayDistinct(JSONExtract(object, name, 'Array(String)'))`.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, ListBuilder, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde_json::Value;
use serde_json::value::RawValue;

/// The most texts that are taken of one list; a post has fewer tags.
const TEXTS_MAX: usize = 1_000;

/// The function, to be registered with a session.
pub(super) fn json_texts() -> ScalarUDF {
    ScalarUDF::new_from_impl(JsonTexts {
        signature: Signature::uniform(2, vec![DataType::Utf8View], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonTexts {
    signature: Signature,
}

impl ScalarUDFImpl for JsonTexts {
    fn name(&self) -> &'static str {
        "json_texts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [objects, names] = arrays.as_slice() else {
            return exec_err!("json_texts takes an object and a name");
        };
        Ok(ColumnarValue::Array(texts_of(objects, names)))
    }
}

fn texts_of(objects: &ArrayRef, names: &ArrayRef) -> ArrayRef {
    let (objects, names) = (objects.as_string_view(), names.as_string_view());
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for (object, name) in objects.iter().zip(names) {
        let found = object.zip(name).map_or_else(Vec::new, |(object, name)| texts(object, name));
        for text in &found {
            lists.values().append_value(text);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// The different texts of the list called `name`, in order. None for what is no object or holds no such list.
fn texts(object: &str, name: &str) -> Vec<String> {
    // Only the list is looked at closely; the rest is skipped as it stands.
    let object = serde_json::from_str::<BTreeMap<String, &RawValue>>(object).unwrap_or_default();
    let list = object.get(name).and_then(|raw| serde_json::from_str::<Vec<Value>>(raw.get()).ok());
    let mut texts: Vec<String> = Vec::new();
    for value in list.unwrap_or_default() {
        match value {
            Value::String(text) if texts.len() < TEXTS_MAX && !texts.contains(&text) => texts.push(text),
            _ => {}
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_list_each_once_in_order() {
        let check = |object: &str, expected: &[&str]| assert_eq!(texts(object, "tags"), expected, "{object}");
        check(r#"{"tags":["b","a","b","\u00fc \"x\""],"tag":["no"]}"#, &["b", "a", "ü \"x\""]);
        check(r#"{"tags":["a",1,null,["n"],{"tags":["n"]}],"n":{"tags":["x"]}}"#, &["a"]);
        check(r#"{"n":{"tags":["x"]}}"#, &[]);
        for nothing in ["{}", "", "[]", "null", r#"{"tags":"a"}"#, r#"{"tags":null}"#, r#"{"tags":["a"]"#] {
            check(nothing, &[]);
        }
    }
}
