//! File handles: each connection is one, and so is each open file of the stores.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the stores, the log and the engines' clients may need of them; on a process that has few, half of all.
const RESERVED: usize = 4_096;

/// Where the kernel sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Takes all the handles that the process may have: the usual 1,024 are a limit for programs that use `select`.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files cannot be raised; fewer connections are served at one time");
    }
}

/// How many there are for connections.
pub(crate) fn for_connections() -> usize {
    let all = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    let all = usize::try_from(all).unwrap_or(usize::MAX);
    all - RESERVED.min(all / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_keep_their_share() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum, "all that the process may have");
        let all = limit.current.map_or(usize::MAX, |n| usize::try_from(n).unwrap());
        assert!(for_connections() >= all.min(1 << 20) / 2 && for_connections() < all);
    }
}
