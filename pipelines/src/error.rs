use millrace_events::TopicPartition;
use millrace_log::Offset;

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a partition cannot go on. The runner restarts it from its last commit, except where it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log did not do what it was asked.
    #[error("the log failed")]
    Log(#[from] millrace_log::Error),
    /// The online store did not do what it was asked.
    #[error("the online store failed")]
    Online(#[from] millrace_feature_store::Error),
    /// Job state could not be read or written.
    #[error("cannot {attempted} the state of {of}")]
    State {
        /// What was attempted.
        attempted: &'static str,
        /// On whose state.
        of: TopicPartition,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The warehouse did not do what it was asked.
    #[error("the warehouse failed")]
    Warehouse(#[from] millrace_warehouse::Error),
    /// The warehouse and the log are not of one piece. The archive waits until they are.
    #[error("{0}")]
    Torn(String),
    /// The archive could not go on.
    #[error("cannot build a block of the archive")]
    Archive(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is not what was written. The partition stops; restore it from a backup or rebuild it.
    #[error("{0}")]
    Corrupt(String),
    /// A re-keyed record that stage 1 cannot have written. The partition stops before it.
    #[error("{0}")]
    BadRecord(String),
    /// A record that should be there was not: an earlier record for this partition is not in the log yet or any more.
    #[error("{of} at {offset}: a record from source partition {source_partition} is missing before this one")]
    Gap {
        /// The partition that reads.
        of: TopicPartition,
        /// Where it met the gap.
        offset: Offset,
        /// Whose record is missing.
        source_partition: u32,
    },
    /// Another worker owns the partition now; this one stops for good.
    #[error("{0} has a new owner")]
    Fenced(TopicPartition),
    /// State says it has applied more than the log holds.
    #[error(
        "the state of {of} is at offset {committed}, but the log ends at {end}: the log was restored from an older copy or \
         lost its tail; restore the state from the same backup, or delete the data directory's state and rebuild from the log"
    )]
    BeyondEnd {
        /// The partition.
        of: TopicPartition,
        /// Where its state stands.
        committed: Offset,
        /// Where its log ends.
        end: Offset,
    },
}

impl Error {
    /// True when trying again cannot help: the worker stops and says so.
    pub fn is_final(&self) -> bool {
        use millrace_feature_store::ErrorKind as Online;
        use millrace_log::ErrorKind as Log;
        match self {
            Error::Fenced(_) | Error::BeyondEnd { .. } | Error::Corrupt(_) | Error::BadRecord(_) => true,
            Error::Log(error) => matches!(error.kind(), Log::Invalid | Log::Corrupt | Log::Fenced),
            Error::Online(error) => matches!(error.kind(), Online::Invalid | Online::Corrupt),
            Error::Warehouse(_) | Error::Torn(_) | Error::Archive(_) | Error::State { .. } | Error::Gap { .. } => false,
        }
    }

    /// True when the log may do what it was asked when it is asked again.
    pub(crate) fn is_of_a_log_that_is_away(&self) -> bool {
        matches!(self, Error::Log(error) if error.kind() == millrace_log::ErrorKind::Retry)
    }

    /// True when one record was not let in, and nothing of it was applied.
    pub(crate) fn is_about_record(&self) -> bool {
        matches!(self, Error::Gap { .. } | Error::BadRecord(_))
    }

    pub(crate) fn bad_record(what: &str, of: TopicPartition, offset: Offset) -> Self {
        Error::BadRecord(format!("{of} at {offset} is not {what}: something else wrote to this topic; rebuild it"))
    }

    pub(crate) fn corrupt(what: &str, of: TopicPartition) -> Self {
        Error::Corrupt(format!("cannot decode {what} in {of}: restore the data directory from a backup"))
    }
}
