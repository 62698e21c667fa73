//! OpenAPI 3.1: an operation for each row of the router's table.

use serde_json::{Map, Value, json};

use super::read;
use crate::api::routes::{Access, Content, Header, ParameterIn, Row, TABLE, Verb};

/// The description of what all routes share.
const ABOUT: &str = "An event broker for Digital Rebar Provision fleets. Answers below 400, except streams, are JSON; \
    answers of 400 and above have a DRP Error as their body. HEAD works wherever GET does; OPTIONS answers a browser's \
    preflight. Other paths are answered with 404 or, in front of an endpoint, forwarded to it; so are requests for \
    events, info and tokens from callers whom the endpoint authenticates.";

/// Returns the document with these schemas.
pub(super) fn document(schemas: &Value) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hydrant",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v3"}],
        "security": [{"basic": []}, {"bearer": []}, {"token": []}, {"certificate": []}],
        "paths": paths(),
        "components": {"schemas": schemas, "responses": responses(), "securitySchemes": security()},
    })
}

fn security() -> Value {
    json!({
        "basic": {"type": "http", "scheme": "basic"},
        "bearer": {"type": "http", "scheme": "bearer"},
        "token": {"type": "apiKey", "in": "query", "name": "token", "description": "A token, or user:password."},
        "certificate": {"type": "mutualTLS", "description": "If the server accepts client certificates."},
    })
}

fn paths() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in &TABLE {
        let method = match row.verb {
            Verb::Get | Verb::Any => "get",
            Verb::Post => "post",
            Verb::Delete => "delete",
        };
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        path[method] = operation(row);
    }
    paths.into()
}

fn operation(row: &Row) -> Value {
    let mut operation = json!({"operationId": row.name, "summary": row.summary, "responses": answers(row)});
    let claim = match row.access {
        Access::Claim(claim) => Some(claim),
        Access::Anybody | Access::Known => None,
    };
    let text = [row.text.to_owned(), claim.map(|claim| format!("Requires the claim {claim}.")).unwrap_or_default()];
    let text: Vec<&str> = text.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if !text.is_empty() {
        operation["description"] = text.join(" ").into();
    }
    if let Some(claim) = claim {
        operation["x-claim"] = claim.into();
    }
    if row.access == Access::Anybody {
        operation["security"] = json!([]);
    }
    let parameters = parameters(row);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if !row.body.is_empty() {
        operation["requestBody"] = json!({"required": true, "content": contents(row.body)});
    }
    operation
}

fn parameters(row: &Row) -> Vec<Value> {
    let name = row.path.split(['{', '}']).nth(1).unwrap_or_default();
    let in_path = row.in_path.iter().map(|one| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": one.text,
            "schema": read(one.schema),
            "example": one.example,
        })
    });
    let others = row.parameters.iter().map(|one| {
        let schema = read(one.schema);
        let repeated = one.place == ParameterIn::Repeated;
        let schema = if repeated { json!({"type": "array", "items": schema, "minItems": 1}) } else { schema };
        let number = one.example.parse::<u64>().ok().filter(|_| schema["type"] == "integer").map(Value::from);
        let example = number.unwrap_or_else(|| one.example.into());
        json!({
            "name": one.name,
            "in": if one.place == ParameterIn::Header { "header" } else { "query" },
            "required": one.required,
            "description": one.text,
            "schema": schema,
            "example": if repeated { json!([example]) } else { example },
        })
    });
    in_path.chain(others).collect()
}

fn contents(contents: &[Content]) -> Value {
    let each = contents.iter().map(|content| (content.media.to_owned(), json!({"schema": schema(content.schema)})));
    each.collect::<Map<_, _>>().into()
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn answers(row: &Row) -> Value {
    let mut answers = Map::new();
    for one in row.answers {
        let mut answer = json!({"description": one.text});
        if !one.content.is_empty() {
            answer["content"] = contents(one.content);
        }
        for Header { name, text, schema, required } in one.headers {
            answer["headers"][name] = json!({"description": text, "required": required, "schema": read(schema)});
        }
        answers.insert(one.status.to_string(), answer);
    }
    for (status, text) in row.failures() {
        answers.insert(
            status.to_string(),
            json!({"$ref": format!("#/components/responses/{status}"), "description": text}),
        );
    }
    answers.into()
}

/// Returns the error answers of all routes by status: a DRP Error and the headers that come with it.
fn responses() -> Value {
    let mut statuses: Vec<u16> = TABLE.iter().flat_map(Row::failures).map(|(status, _)| status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses.into_iter().map(|status| (status.to_string(), response(status))).collect::<Map<_, _>>().into()
}

fn response(status: u16) -> Value {
    let mut response = json!({
        "description": "A DRP Error.",
        "content": {"application/json": {"schema": schema("Error")}},
    });
    let header = match status {
        401 => Some(("WWW-Authenticate", r#"{"const":"dr-provision"}"#)),
        415 => Some(("Accept-Encoding", r#"{"type":"string"}"#)),
        429 => Some(("Retry-After", r#"{"type":"integer"}"#)),
        _ => None,
    };
    if let Some((name, schema)) = header {
        response["headers"][name] = json!({"required": true, "schema": read(schema)});
    }
    response
}
