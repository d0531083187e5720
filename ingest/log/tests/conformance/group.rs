use async_trait::async_trait;
use millrace_events::{Topic, TopicPartition};
use millrace_log::conformance::group::Harness;
use millrace_log::{Group, Member};

const PARTITIONS: u32 = 4;

struct InProcess {
    group: Group,
}

#[async_trait]
impl Harness for InProcess {
    fn partitions(&self) -> Vec<TopicPartition> {
        (0..PARTITIONS).map(|partition| TopicPartition::new(Topic::Actions, partition)).collect()
    }

    async fn join(&self) -> Box<dyn Member> {
        Box::new(self.group.join())
    }
}

fn harness() -> InProcess {
    let group = Group::new((0..PARTITIONS).map(|partition| TopicPartition::new(Topic::Actions, partition)).collect());
    InProcess { group }
}

millrace_log::group_conformance!(harness());
