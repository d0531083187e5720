//! Kafka, Redis, ClickHouse, Postgres and S3 for development, on free ports of the loopback interface, until this program ends:
//! what `make services`, `make demo-cluster` and `make bench-cluster` run. Prints what to set for `millrace up` and `bench`, in
//! the words of a shell. Nothing that they hold outlives them.

#![expect(clippy::print_stdout, reason = "what it prints is its purpose")]

use millrace_engines::fleet::Fleet;

fn main() -> std::process::ExitCode {
    let Some(fleet) = Fleet::start() else { return 3.into() };
    for (store, url) in fleet.stores() {
        println!("export MILLRACE_{}_URL='{url}'", store.to_uppercase());
    }
    let beside: Vec<String> = fleet.processes().iter().map(|(name, process)| format!("{name}={process}")).collect();
    println!("export MILLRACE_BENCH_BESIDE='{}'", beside.join(","));
    println!("# they run until this program is stopped, with Ctrl-C");
    loop {
        std::thread::park();
    }
}
