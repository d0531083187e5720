use super::*;
use crate::target::Target;

fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
    Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(vec![host, Value::Int(port)])])
}

fn host(host: &str) -> Value {
    Value::BulkString(host.as_bytes().to_vec())
}

fn next(map: &Map, ranges: Vec<Value>) -> Result<Map> {
    let target = Target::parse("redis-cluster://seed:1").unwrap();
    map.next(&Value::Array(ranges), "[::1]:7000", &target, &AsyncConnectionConfig::new())
}

#[test]
fn slots_find_their_masters() {
    let map = next(
        &Map::unknown(),
        vec![
            range(0, 99, host("a"), 1),
            range(100, 8_000, host("b"), 2),
            range(8_001, 16_383, host("a"), 1),
            // Later answers about a slot win, as a slot has one master.
            range(50, 60, Value::Nil, 3),
        ],
    )
    .unwrap();
    let owner = |slot| map.owner(slot).map(|(_, server)| server.address.clone());
    assert_eq!(owner(0).as_deref(), Some("a:1"));
    assert_eq!(owner(100).as_deref(), Some("b:2"));
    assert_eq!(owner(16_383).as_deref(), Some("a:1"));
    assert_eq!(owner(55).as_deref(), Some("[::1]:3"), "a server without a name is where it was asked");
    assert_eq!((map.number, map.servers.len(), map.uncovered()), (1, 3, 0));

    let later = next(&map, vec![range(0, 8_191, host("b"), 2)]).unwrap();
    assert_eq!((later.number, later.uncovered()), (2, 8_192));
    assert!(later.owner(8_192).is_none());
    let same = Arc::ptr_eq(later.server_at("b:2").unwrap(), map.server_at("b:2").unwrap());
    assert!(same, "a server that stays keeps its connection");
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    for ranges in [
        vec![],
        vec![Value::Nil],
        vec![range(5, 4, host("a"), 1)],
        vec![range(0, 16_384, host("a"), 1)],
        vec![range(-1, 4, host("a"), 1)],
        vec![range(0, 4, host("a"), 65_536)],
        vec![range(0, 4, Value::Int(1), 1)],
        vec![range(0, 4, Value::BulkString(vec![0xff]), 1)],
    ] {
        assert!(next(&Map::unknown(), ranges.clone()).is_err(), "{ranges:?}");
    }
}
