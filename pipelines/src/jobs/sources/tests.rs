use millrace_events::ActionKind;

use super::super::tests::Bench;
use super::*;

const SECOND: i64 = 1_000_000;

fn of<'a>(sources: &'a [SourceCounts], name: &str) -> &'a SourceCounts {
    sources.iter().find(|of| of.source == name).unwrap()
}

#[tokio::test]
async fn every_event_is_counted_with_its_source_and_once() {
    let mut bench = Bench::new();
    let mut sent = bench.event("a", ActionKind::PostViewed, "p", "");
    bench.send(&sent).await;
    bench.send(&sent).await;
    sent.source = "other".to_owned();
    bench.send(&sent).await;
    let mut late = bench.event("a", ActionKind::PostViewed, "q", "");
    late.event_time_us -= 600 * SECOND;
    bench.send(&late).await;
    let mut robot = bench.event("a", ActionKind::PostViewed, "r", "");
    robot.robot = true;
    bench.send(&robot).await;
    let mut departs = bench.event("a", ActionKind::PostViewed, "s", "");
    departs.violation = "/price: type".to_owned();
    bench.send(&departs).await;
    bench.act("a", ActionKind::UserFollowed, "", "a").await;
    bench.settle().await;
    let told = bench.sources();
    let test = SourceCounts {
        source: "test".to_owned(),
        accepted: 5,
        duplicates: 1,
        late: 1,
        robots: 1,
        violations: 1,
        refused: 1,
        last_us: sent.event_time_us,
    };
    assert_eq!(of(&told, "test"), &test);
    assert_eq!((of(&told, "other").accepted, of(&told, "other").duplicates), (1, 0), "an id is the source's own");
    assert_eq!(bench.online_sources().await, told, "other processes read the same");
    // A worker that begins anew from its state counts nothing again.
    bench.settle().await;
    assert_eq!(bench.sources(), told);
}

#[test]
fn what_is_too_much_to_name_is_counted_together() {
    let mut sources = Sources::default();
    for nth in 0..SOURCES_MAX + 10 {
        sources.of(&format!("source-{nth}")).accepted += 1;
        sources.of(&format!("source-{nth}")).late += 1;
    }
    assert_eq!(sources.by_name.len(), SOURCES_MAX + 1);
    assert!(sources.by_name.is_sorted_by(|a, b| a.source < b.source));
    assert_eq!((of(&sources.by_name, "").accepted, of(&sources.by_name, "").late), (10, 10));
    assert_eq!(of(&sources.by_name, "source-255").accepted, 1);
    let mut bytes = Vec::new();
    StateValue::encode(&sources, &mut bytes);
    assert_eq!(<Sources as StateValue>::decode(&bytes), Some(sources));
}
