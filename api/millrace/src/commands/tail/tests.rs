use serde_json::json;

use super::*;

/// Partitions of numbered records up to their ends, from one start; the odd ones of partition 1 are ticks.
struct Fixed(Vec<u64>, u64);

#[async_trait]
impl Records for Fixed {
    async fn bounds(&self, _topic: Topic) -> anyhow::Result<Vec<LogBounds>> {
        Ok(self.0.iter().map(|&end| LogBounds { start: self.1.min(end), end }).collect())
    }

    async fn read(&self, _topic: Topic, partition: u32, from: u64, limit: u64) -> anyhow::Result<Page> {
        let end = self.0[partition as usize];
        assert!((self.1.min(end)..=end).contains(&from), "reads stay within the bounds");
        let next = end.min(from + limit);
        let record = |offset: u64| {
            let tick = partition == 1 && offset % 2 == 1;
            json!({"partition": partition, "offset": offset, "log_time": format!("2026-01-01T00:{:02}:{:02}Z", offset / 60, offset % 60),
                "type": if tick { "tick" } else { "track" }, "event": "a ticket was bought"})
            .to_string()
        };
        Ok(Page { lines: (from..next).map(record).collect(), next: next.max(from) })
    }
}

#[derive(clap::Parser)]
struct Parsed {
    #[command(flatten)]
    args: Args,
}

async fn printed(ends: &[u64], line: &str) -> Vec<(u64, u64)> {
    printed_from(0, ends, line).await
}

async fn printed_from(start: u64, ends: &[u64], line: &str) -> Vec<(u64, u64)> {
    let words = ["tail", "actions"].into_iter().chain(line.split_whitespace());
    let Parsed { args } = clap::Parser::parse_from(words);
    let mut out = Vec::new();
    let mut print = |line: &str| {
        let record: Value = serde_json::from_str(line)?;
        out.push((record["partition"].as_u64().unwrap(), record["offset"].as_u64().unwrap()));
        Ok(())
    };
    tail(&args, &Fixed(ends.to_vec(), start), &mut print).await.unwrap();
    out
}

#[tokio::test]
async fn from_the_start_partition_by_partition_without_ticks() {
    assert_eq!(printed(&[2, 4], "--from start --limit 100").await, [(0, 0), (0, 1), (1, 0), (1, 2)]);
    assert_eq!(printed(&[2, 4], "--from start --limit 3").await, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(
        printed(&[2, 4], "--from start --limit 100 --partition 1 --ticks").await,
        [(1, 0), (1, 1), (1, 2), (1, 3)]
    );
    assert_eq!(printed(&[5, 4], "--from 3 --limit 100").await, [(0, 3), (0, 4)]);
    assert_eq!(printed(&[1_200], "--from start --limit 1100").await.len(), 1_100);
    assert_eq!(printed(&[0, 0], "--from start --limit 1").await, []);
}

#[tokio::test]
async fn the_last_ones_are_the_youngest_of_all_partitions() {
    assert_eq!(printed(&[4, 8], "--limit 3").await, [(0, 3), (1, 4), (1, 6)]);
    assert_eq!(printed(&[4, 8], "--limit 2 --partition 0").await, [(0, 2), (0, 3)]);
    assert_eq!(printed(&[0, 1_400], "--limit 600").await.len(), 600, "pages are walked back past ticks");
    assert_eq!(printed(&[0, 0], "--limit 3").await, []);
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_said() {
    let Parsed { args } = clap::Parser::parse_from(["tail", "actions", "--partition", "9", "--limit", "1"]);
    let error = tail(&args, &Fixed(vec![1, 1], 0), &mut |_| Ok(())).await.unwrap_err();
    assert_eq!(error.to_string(), "actions has no partition 9: it has 2");
}

#[tokio::test]
async fn what_is_no_longer_kept_is_skipped() {
    assert_eq!(printed_from(3, &[5], "--from start --limit 9").await, [(0, 3), (0, 4)]);
    assert_eq!(printed_from(3, &[5], "--from 1 --limit 9").await, [(0, 3), (0, 4)]);
    assert_eq!(printed_from(3, &[5], "--limit 9").await, [(0, 3), (0, 4)]);
    assert_eq!(printed_from(0, &[5], "--from 9 --limit 9").await, []);
}
