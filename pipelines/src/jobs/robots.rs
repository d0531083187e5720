//! Who is no person by the rate of what they do. Runs inside stage 1's pass, because `actions` is keyed by the actor already.
//!
//! Two things tell a program from a person: it is faster, and it does not tire. So an actor has two limits, each a pace that
//! may be kept up for ever and a number of acts that may come beside it:
//!
//! | counted | a minute | beside | is crossed by |
//! |---|---|---|---|
//! | everything that a person does with eyes and hands: the known actions, pages and screens | 120 | 120 | 240 within a minute, or 3 a second for two minutes |
//! | what is done on purpose: all of these but views, clicks, searches, pages and screens | 4 | 120 | 30 a minute for five minutes, 10 for twenty, 6 for an hour |
//!
//! What an app reports under a name of its own counts towards neither: how often it does so says nothing about who holds it.
//! Nor does what is late: when it arrived is not when it was done, and a telephone that was off for a day sends all at once.
//!
//! From the act that crosses a limit on, everything of that actor is a robot's, for an hour of log time after the last act
//! that did; what came before stays as it was decided. It is a function of the log, record by record, so that a replay
//! decides the same. The door's own marks ([`Envelope::robot`]) hold for their event alone.

use millrace_events::{ActionKind, Envelope, Kind, LogTime};

use super::tables;
use crate::Result;
use crate::operators::pace::{Limit, Paces};
use crate::state::State;

/// What eyes and hands do.
const ACTS: Limit = Limit { per_minute: 120, beside: 120 };

/// What is done on purpose.
const DEEDS: Limit = Limit { per_minute: 4, beside: 120 };

/// For how long an actor is a robot after crossing a limit, microseconds of log time.
pub const ROBOT_FOR_US: i64 = 3_600 * 1_000_000;

const PACES: Paces = Paces { table: tables::PACES, limits: [ACTS, DEEDS], keep_us: ROBOT_FOR_US };

/// True when no person did it, by the door's mark or by the rate of its actor.
pub(super) fn is_robot(envelope: &Envelope, late: bool, time: LogTime, state: &mut State) -> Result<bool> {
    if envelope.robot {
        return Ok(true);
    }
    let counts = if late { [false, false] } else { counts(envelope) };
    PACES.is_over(state, envelope.key(), time, counts)
}

/// Towards which of the limits it counts.
fn counts(envelope: &Envelope) -> [bool; 2] {
    match envelope.action_kind() {
        ActionKind::Custom => [matches!(envelope.kind(), Kind::Page | Kind::Screen), false],
        ActionKind::PostViewed | ActionKind::PostClicked | ActionKind::SearchPerformed => [true, false],
        ActionKind::UserRegistered
        | ActionKind::UserFollowed
        | ActionKind::UserUnfollowed
        | ActionKind::UserBlocked
        | ActionKind::UserUnblocked
        | ActionKind::UserMuted
        | ActionKind::UserUnmuted
        | ActionKind::PostCreated
        | ActionKind::PostEdited
        | ActionKind::PostDeleted
        | ActionKind::PostLiked
        | ActionKind::PostUnliked
        | ActionKind::PostShared
        | ActionKind::PostHidden
        | ActionKind::PostSaved
        | ActionKind::PostCommented
        | ActionKind::PostReported
        | ActionKind::TagFollowed
        | ActionKind::TagUnfollowed => [true, true],
    }
}

#[cfg(test)]
mod tests;
