use super::*;

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn sleeper() -> Process {
    let mut process = Process::new("sleeper");
    let marker = process.folder().join("ready");
    let script = format!("echo hello; touch {}; exec sleep 1000", marker.display());
    process.start(Path::new("/bin/sh"), vec!["-c".into(), script], || marker.exists());
    process
}

fn engine_of(process: &Process) -> u32 {
    process.running.as_ref().unwrap().engine
}

#[test]
fn it_goes_with_its_handle_and_so_does_its_folder() {
    let process = sleeper();
    let (engine, folder) = (engine_of(&process), process.folder().to_owned());
    assert!(alive(engine));
    assert_eq!(fs::read_to_string(folder.join("engine.log")).unwrap(), "hello\n");
    drop(process);
    assert!(!alive(engine));
    assert!(!folder.exists());
}

#[test]
fn it_comes_back_on_its_folder() {
    let mut process = sleeper();
    let first = engine_of(&process);
    fs::write(process.folder().join("data"), "kept").unwrap();
    process.kill();
    assert!(!alive(first));
    process.restart(|| true);
    assert!(alive(engine_of(&process)));
    assert_eq!(fs::read_to_string(process.folder().join("data")).unwrap(), "kept");
}

#[test]
fn it_ends_when_it_is_told_to_and_comes_back() {
    let mut process = Process::new("obedient");
    let folder = process.folder().to_owned();
    let script = format!(
        "trap 'echo told >{0}/told; exit 0' TERM; touch {0}/ready; while :; do sleep 0.01; done",
        folder.display()
    );
    process.start(Path::new("/bin/sh"), vec!["-c".into(), script], || folder.join("ready").exists());
    let engine = engine_of(&process);
    process.stop();
    assert!(!alive(engine));
    assert_eq!(fs::read_to_string(folder.join("told")).unwrap(), "told\n", "it was told, not killed");
    process.restart(|| true);
    assert!(alive(engine_of(&process)));
}

#[test]
fn it_goes_when_its_handle_is_forgotten_and_the_pipe_closes() {
    let mut process = sleeper();
    let (engine, folder) = (engine_of(&process), process.folder().to_owned());
    // What the kernel does when this process is killed.
    drop(process.running.as_mut().unwrap().farewell.take());
    while alive(engine) || folder.exists() {
        pause();
    }
}

#[test]
#[should_panic(expected = "no such thing")]
fn what_it_said_before_it_ended_is_told() {
    let mut process = Process::new("failing");
    process.start(Path::new("/bin/sh"), vec!["-c".into(), "echo no such thing; exit 1".into()], || false);
}
