//! The jobs of one process: a worker for each partition that is assigned to it, on threads of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_events::TopicPartition;
use millrace_log::{Assignment, Member};
use millrace_pipelines::Error;
use millrace_pipelines::archive::Archived;
use millrace_pipelines::jobs::stage_of;
use millrace_pipelines::runner::{Board, Gate, Seams, Stop, Worker, WorkerOptions};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::assemble::{GENERATION, Stores, TokioTimer};

/// How long workers that are told to stop may take to commit; what they do not commit is done again by whoever comes next.
const COMMIT_GRACE: Duration = Duration::from_secs(3);

/// How often the group is told how far its partitions are, and workers are looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A partition that another has taken, though it is assigned to this process, is taken back after this long: by then the
/// group has said whose it is.
const FENCED_REST: Duration = Duration::from_secs(5);

/// Threads of the archive. They stand back for all others and mostly wait.
const BACKGROUND_THREADS: usize = 4;

/// See the module.
pub(crate) struct Jobs {
    runtime: Option<Runtime>,
    /// For what may wait: the archive. Its threads stand back for all others.
    background: Option<Runtime>,
    tasks: Vec<JoinHandle<()>>,
    /// Who starts and stops the workers.
    foreman: JoinHandle<()>,
    stop: Stop,
    pub(crate) board: Board,
    pub(crate) gate: Gate,
}

impl Jobs {
    /// Starts a worker for every partition: nobody else works on this log.
    pub(crate) fn all(stores: &Stores, archived: &Archived) -> anyhow::Result<Self> {
        Self::start(stores, archived, stores.alone())
    }

    /// Starts workers for what is assigned to `member`, as long as it is.
    pub(crate) fn start(stores: &Stores, archived: &Archived, member: Box<dyn Member>) -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("millrace-jobs")
            .enable_all()
            .build()
            .context("cannot start the threads of the jobs")?;
        let background = Builder::new_multi_thread()
            // The Delta kernel waits on one thread for what it has another one do: with too few, a checkpoint never ends. So
            // threads that wait for the disk have no bound of ours either.
            .worker_threads(BACKGROUND_THREADS)
            .thread_name("millrace-archive")
            .on_thread_start(millrace_delta::step_back)
            .enable_all()
            .build()
            .context("cannot start the threads of the archive")?;
        let (board, gate, stop) = (Board::new(), Gate::default(), Stop::default());
        let crew = Crew {
            seams: Seams {
                log: stores.log.clone(),
                online: stores.online.store(),
                states: stores.states.store(),
                timer: Arc::new(TokioTimer),
                gate: gate.clone(),
                archived: archived.clone(),
            },
            options: stores.states.worker_options(),
            board: board.clone(),
            runtime: runtime.handle().clone(),
            workers: BTreeMap::new(),
        };
        let foreman = runtime.spawn(run(crew, member, stop.clone()));
        Ok(Self { runtime: Some(runtime), background: Some(background), tasks: Vec::new(), foreman, stop, board, gate })
    }

    /// Lets every worker commit, within bounds, and stops them.
    pub(crate) async fn stop(mut self) {
        self.stop.set();
        let stopped = async {
            if let Err(error) = (&mut self.foreman).await {
                tracing::error!(%error, "who starts and stops the workers ended early");
            }
            for task in self.tasks.drain(..) {
                task.abort();
                // Ends at its next await; cancelled is what it was told to be.
                let _cancelled = task.await;
            }
        };
        if timeout(COMMIT_GRACE * 2, stopped).await.is_err() {
            tracing::warn!("a job is still waiting for a store; it is left behind");
        }
    }

    /// Runs `task` in the background until the jobs stop.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.background {
            self.tasks.push(runtime.spawn(task));
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // A runtime may not be dropped where async code runs; its threads end by themselves.
        for runtime in [self.runtime.take(), self.background.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// Follows the assignment until `stop`. A partition that moves away is committed and closed before it is released.
async fn run(mut crew: Crew, member: Box<dyn Member>, stop: Stop) {
    let mut assignment = member.assignment();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Assignment { epoch, partitions } = assignment.borrow_and_update().clone();
        let partitions = BTreeSet::from_iter(partitions);
        crew.keep(&partitions).await;
        member.released(epoch);
        crew.start(&partitions);
        tokio::select! {
            // Without a sender nothing changes any more.
            changed = assignment.changed() => if changed.is_err() { stop.wait().await },
            _ = look.tick() => crew.report(member.as_ref()),
            () = stop.wait() => {}
        }
        if stop.is_set() {
            crew.keep(&BTreeSet::new()).await;
            // Leaving the group waits for its thread.
            let _left = tokio::task::spawn_blocking(move || drop(member)).await;
            return;
        }
    }
}

/// The workers that run now.
struct Crew {
    seams: Seams,
    options: WorkerOptions,
    board: Board,
    runtime: Handle,
    workers: BTreeMap<TopicPartition, (Stop, JoinHandle<()>)>,
}

impl Crew {
    /// Stops whoever works on anything else, and waits until they have committed.
    async fn keep(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let leaving: Vec<_> = self.workers.extract_if(.., |of, _| !partitions.contains(of)).collect();
        leaving.iter().for_each(|(_, (stop, _))| stop.set());
        // One bound for all of them: they commit at the same time.
        let deadline = Instant::now() + COMMIT_GRACE;
        for (of, (_, mut task)) in leaving {
            if timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!(partition = %of, "no commit in time: whoever comes next goes on from the last one");
                task.abort();
                // Ends at its next await; cancelled is what it was told to be.
                let _cancelled = timeout(COMMIT_GRACE, task).await;
            }
            self.board.remove(of);
        }
    }

    /// Starts a worker for each partition without one.
    fn start(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for &of in partitions {
            let Some(stage) = stage_of(of.topic, GENERATION, self.seams.log.partitions()) else { continue };
            self.workers.entry(of).or_insert_with(|| {
                let (seams, options) = (self.seams.clone(), self.options.clone());
                let worker = Worker::new(of, GENERATION, stage, seams, options, self.board.clone());
                let stop = Stop::default();
                (stop.clone(), self.runtime.spawn(work(worker, stop)))
            });
        }
    }

    fn report(&self, member: &dyn Member) {
        for (of, status) in self.board.all() {
            member.report(of, status.committed);
        }
    }
}

/// Works until `stop`, or until the partition cannot go on: the worker logged why; the status and readiness show it.
async fn work(worker: Worker, stop: Stop) {
    while let Err(Error::Fenced(_)) = worker.run(&stop).await {
        // Either it has moved away and nobody has told us yet, or another has come late to what had moved here.
        let told = timeout(FENCED_REST, stop.wait()).await;
        if told.is_ok() {
            return;
        }
    }
}
