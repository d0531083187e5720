use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// What `millrace bench` makes of these arguments.
pub(super) fn args(given: &[&str]) -> Result<Args, clap::Error> {
    Cli::try_parse_from([&["bench"], given].concat()).map(|cli| cli.args)
}

#[track_caller]
fn refused(given: &[&str], said: &str) {
    let error = args(given).map(|args| args.names).unwrap_err().to_string();
    assert!(error.contains(said), "{given:?}: {error}");
}

#[test]
fn arguments_are_read_and_bounded() {
    let read =
        args(&["jobs", "takeover", "--log", "kafka://h", "--partitions", "8", "--kills", "2", "--beside", "a=1,b=2"]);
    let read = read.unwrap();
    assert_eq!(read.names, [Name::Jobs, Name::Takeover]);
    assert_eq!((read.partitions, read.kills, read.beside.len()), (Some(8), 2, 2));
    assert_eq!(read.stores.log.as_deref(), Some("kafka://h"));
    refused(&[], "required");
    refused(&["jobs", "--partitions", "0"], "1..=1024");
    refused(&["jobs", "--kills", "0"], "1..=100");
    refused(&["feed", "--feeds", "0"], "1..=1000");
    refused(&["jobs", "--beside", "redis"], "NAME=PID");
}

#[test]
fn each_platform_has_names_of_its_own_on_the_engines() {
    let given =
        args(&["jobs", "--log", "kafka://h:1/shop?replication=1", "--online", "redis://h", "--partitions", "8"]);
    let given = given.unwrap();
    let (one, other) = (Place::fresh(&given).unwrap(), Place::fresh(&given).unwrap());
    let (one, other) = (one.config().unwrap(), other.config().unwrap());
    assert!(one.log.to_string().starts_with("kafka://h:1/shop-bench-"), "{}", one.log);
    assert!(one.log != other.log && one.online != other.online && one.data_dir != other.data_dir);
    assert_eq!((one.partitions, one.warehouse), (Some(8), crate::config::Backend::Embedded));
}

#[test]
fn what_is_set_for_another_millrace_is_not_for_the_platform_under_test() {
    let place = Place::fresh(&args(&["jobs", "--online", "redis://h", "--partitions", "2"]).unwrap()).unwrap();
    assert!(!place.is_shared() && place.kind() == "engines");
    let command = place.up(place.dir()).unwrap();
    let variables: Vec<_> = command.get_envs().filter(|(_, value)| value.is_some()).collect();
    assert_eq!(variables.len(), 1, "{variables:?}");
    assert!(variables[0].0 == "MILLRACE_ONLINE_URL", "{variables:?}");
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    assert!(arguments[0] == "up" && arguments.join(" ").ends_with("--partitions 2"), "{arguments:?}");
    assert!(!arguments.join(" ").contains("redis"), "any process reads arguments: {arguments:?}");
}

#[test]
fn batches_hold_all_events_once_and_are_json() {
    let all = batches(250, 100).map(|body| {
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["batch"].as_array().unwrap().len()
    });
    assert_eq!(all.collect::<Vec<_>>(), [100, 100, 50]);
    let single: Value = serde_json::from_slice(&bodies(3, 1)[2]).unwrap();
    assert!(single["event"].is_string());
    assert_eq!((bodies(3, 1).len(), bodies(0, 100).len()), (3, 0));
}

#[test]
fn what_an_idle_platform_reads_is_not_for_feeds() {
    let idle = Asked { round_trips: 3.0, commands: 30.0 };
    let asked = Asked { round_trips: 610.0, commands: 10_100.0 };
    assert_eq!(asked.each(&idle, IDLE * 10 / 3, 100), ", 6.00 round trips and 100 commands each");
    let none = Asked { round_trips: 0.0, commands: 0.0 };
    assert_eq!(none.each(&none, IDLE, 100), "");
}

#[tokio::test]
async fn takeover_without_engines_says_what_to_give() {
    let error = takeover::run(&args(&["takeover"]).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("--log, --state and --online"), "{error}");
}
