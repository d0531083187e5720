//! Reading records and lists: many keys in one pipeline per server, many records in one command where there is one server.

use std::sync::Arc;

use bytes::Bytes;
use millrace_feature_store::online::{KEY_BYTES_MAX, ListItem, ListKey, RecordKey, Result};
use millrace_feature_store::views::bound_of;
use redis::Value;

use crate::failure::garbage;
use crate::keys::{self, Garbage, stored_item};
use crate::plan::Op;
use crate::shared::Shared;

/// How many records one command asks for at most: while it runs, nobody else is served.
const READ_RECORDS_MAX: usize = 128;

/// The values of these records. Among several, on one server, a key of another type is "not there": MGET does not tell it
/// apart. Writing to it is an error all the same.
pub(crate) async fn records(
    shared: &Arc<Shared>,
    attempted: &'static str,
    keys: &[RecordKey],
) -> Result<Vec<Option<Bytes>>> {
    let names: Vec<Vec<u8>> =
        keys.iter().filter(|key| fits(&key.entity)).map(|key| shared.shape.keys.record(key)).collect();
    // In a cluster nearly every key would need an MGET of its own, because nearly every key has a slot of its own.
    let per_op = if shared.shape.cluster { 1 } else { READ_RECORDS_MAX };
    let ops: Vec<Op> = names
        .chunks(per_op)
        .map(|names| {
            let mut op = Op::on(&shared.shape, if names.len() == 1 { "GET" } else { "MGET" }, &names[0]);
            names[1..].iter().for_each(|name| op.arg(name));
            op
        })
        .collect();
    let values = shared.run(attempted, &ops, false).await?.into_iter();
    let values: Vec<Value> = values
        .flat_map(|value| match value {
            Value::Array(values) => values,
            value => vec![value],
        })
        .collect();
    if values.len() != names.len() {
        return Err(garbage(attempted, &place(shared)));
    }
    let mut values = values.into_iter();
    let answers = keys.iter().map(|key| match if fits(&key.entity) { values.next() } else { None } {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::BulkString(stored)) => keys::read_record(stored),
        Some(_) => Err(Garbage),
    });
    answers.collect::<std::result::Result<_, _>>().map_err(|Garbage| garbage(attempted, &place(shared)))
}

/// The first items of these lists.
pub(crate) async fn heads(
    shared: &Arc<Shared>,
    attempted: &'static str,
    lists: &[ListKey],
    limit: usize,
) -> Result<Vec<Vec<ListItem>>> {
    let asked = |list: &ListKey| limit > 0 && fits(&list.entity);
    let op = |list: &ListKey| {
        let mut op = Op::on(&shared.shape, "ZRANGE", &shared.shape.keys.items(list));
        op.arg(b"0");
        op.arg((count(list, limit) - 1).to_string().as_bytes());
        op
    };
    let ops: Vec<Op> = lists.iter().filter(|list| asked(list)).map(op).collect();
    let mut values = shared.run(attempted, &ops, false).await?.into_iter();
    let heads = lists.iter().map(|list| read_items(if asked(list) { values.next() } else { None }));
    heads.collect::<std::result::Result<_, _>>().map_err(|Garbage| garbage(attempted, &place(shared)))
}

/// Items of one list after `after`.
pub(crate) async fn page(
    shared: &Arc<Shared>,
    attempted: &'static str,
    list: &ListKey,
    after: Option<&ListItem>,
    limit: usize,
) -> Result<Vec<ListItem>> {
    let Some(after) = after else {
        let heads = heads(shared, attempted, std::slice::from_ref(list), limit).await?;
        return Ok(heads.into_iter().next().unwrap_or_default());
    };
    if limit == 0 || !fits(&list.entity) {
        return Ok(Vec::new());
    }
    let mut op = Op::on(&shared.shape, "ZRANGEBYLEX", &shared.shape.keys.items(list));
    op.arg(&[b"(", &stored_item(after.score, &after.member)[..]].concat());
    op.arg(b"+");
    op.arg(b"LIMIT");
    op.arg(b"0");
    // The stored list is never longer than its bound.
    op.arg(count(list, limit).to_string().as_bytes());
    let value = shared.run(attempted, &[op], false).await?.pop();
    read_items(value).map_err(|Garbage| garbage(attempted, &place(shared)))
}

/// How many items to ask for, within what Redis takes.
fn count(list: &ListKey, limit: usize) -> i64 {
    i64::try_from(limit.min(bound_of(list.view))).unwrap_or(i64::MAX)
}

fn read_items(value: Option<Value>) -> std::result::Result<Vec<ListItem>, Garbage> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Array(items) = value else { return Err(Garbage) };
    let items = items.into_iter().map(|item| {
        let Value::BulkString(item) = item else { return Err(Garbage) };
        let (score, member) = keys::read_item(item)?;
        Ok(ListItem { score, member })
    });
    items.collect()
}

/// Entities of another length are never stored.
fn fits(entity: &Bytes) -> bool {
    (1..=KEY_BYTES_MAX).contains(&entity.len())
}

fn place(shared: &Shared) -> String {
    shared.map().servers.iter().map(|server| &server.address[..]).collect::<Vec<_>>().join(", ")
}
