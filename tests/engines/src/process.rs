//! The process of an engine.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Runs the engine, tells its number, and waits for it. When our end of the pipe closes, however this process ended, it is
/// killed; without a word of farewell (nobody was there to clean up) its folder goes too, moved first, so that no `ended`
/// is written into what is being removed.
const KEEPER: &str = r#"
exec 3<&0 2>/dev/null
folder=$1
shift
rm -f "$folder/ended"
"$@" </dev/null 3<&- >>"$folder/engine.log" 2>&1 &
engine=$!
(
    read -r word <&3 || word=gone
    [ -e "$folder/ended" ] || kill -KILL "$engine" 2>/dev/null
    if [ "$word" = gone ]; then mv "$folder" "$folder.gone" && rm -rf -- "$folder.gone"; fi
) >/dev/null 2>&1 &
echo "$engine"
exec >&- 3<&-
wait "$engine"
: >"$folder/ended"
"#;

/// An engine that runs, in a folder of its own; both go with this handle, and with this process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    farewell: Option<ChildStdin>,
    engine: u32,
}

impl Process {
    /// A folder for an engine that is not started yet; its data and `engine.log` belong there.
    ///
    /// # Panics
    /// When there is no room for a folder.
    pub fn new(name: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("millrace-{name}-")).tempdir();
        let folder = folder.expect("a test machine has room for a folder");
        Self { name, program: PathBuf::new(), arguments: Vec::new(), folder, running: None }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.engine)
    }

    /// Starts `program`, and waits until `ready`.
    ///
    /// # Panics
    /// When it ends or is not ready within [`crate::START_MAX`]; its output is in the message.
    pub fn start(&mut self, program: &Path, arguments: Vec<String>, ready: impl FnMut() -> bool) {
        self.program = program.to_owned();
        self.arguments = arguments;
        self.restart(ready);
    }

    /// Starts again what was killed, on the same folder.
    ///
    /// # Panics
    /// As of [`Process::start`].
    pub fn restart(&mut self, ready: impl FnMut() -> bool) {
        self.kill();
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(self.folder.path())
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a test machine has a shell");
        let farewell = keeper.stdin.take();
        let mut line = String::new();
        let told = keeper.stdout.take().expect("it is piped");
        BufReader::new(told).read_line(&mut line).expect("the keeper tells a number first");
        let engine = line.trim().parse().expect("the keeper tells a number first");
        self.running = Some(Running { keeper, farewell, engine });
        self.await_ready(ready);
    }

    /// Waits until `ready`: for engines that are only ready together.
    ///
    /// # Panics
    /// As of [`Process::start`].
    pub fn await_ready(&mut self, mut ready: impl FnMut() -> bool) {
        #[expect(clippy::disallowed_methods, reason = "how long a test waits for an engine is real time")]
        let until = Instant::now() + crate::START_MAX;
        while !ready() {
            let ended = self.running.as_mut().is_none_or(|running| !matches!(running.keeper.try_wait(), Ok(None)));
            #[expect(clippy::disallowed_methods, reason = "as above")]
            let late = Instant::now() > until;
            assert!(!ended, "{} ended:\n{}", self.name, self.output());
            assert!(!late, "{} was not ready within {:?}:\n{}", self.name, crate::START_MAX, self.output());
            pause();
        }
    }

    /// Kills it with -9, if it runs, and waits until it is gone.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if let Some(mut farewell) = running.farewell.take() {
            // It fails when the keeper is gone, and so is the engine then.
            drop(farewell.write_all(b"stop\n"));
        }
        drop(running.keeper.wait());
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Panics
    /// When it has not ended within [`crate::START_MAX`].
    pub fn stop(&mut self) {
        self.signal("-TERM");
        #[expect(clippy::disallowed_methods, reason = "how long a test waits for an engine is real time")]
        let until = Instant::now() + crate::START_MAX;
        while self.running.as_mut().is_some_and(|running| matches!(running.keeper.try_wait(), Ok(None))) {
            #[expect(clippy::disallowed_methods, reason = "as above")]
            let late = Instant::now() > until;
            assert!(
                !late,
                "{} was told to end and did not within {:?}:\n{}",
                self.name,
                crate::START_MAX,
                self.output()
            );
            pause();
        }
        self.kill();
    }

    /// Stops it from running until [`Process::resume`]: what a network that swallows everything looks like.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// See [`Process::suspend`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(running) = &self.running {
            let sent = Command::new("/bin/sh").arg("-c").arg(format!("kill {signal} {}", running.engine)).status();
            assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to {}", self.name);
        }
    }

    fn output(&self) -> String {
        let log = self.folder.path().join("engine.log");
        let text = File::open(&log).and_then(|_| fs::read_to_string(&log)).unwrap_or_default();
        let from = text.len().saturating_sub(4_000);
        text.get(from..).unwrap_or(&text).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "a starting engine tells nobody when it is ready")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

#[cfg(test)]
mod tests;
