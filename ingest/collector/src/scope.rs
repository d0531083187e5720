//! What a key lets its holder do.

use std::fmt;

/// One thing that a key may let its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Send events.
    EventsWrite,
    /// Read feeds, posts and trends.
    FeedsRead,
    /// Ask named queries.
    QueriesRead,
    /// See how the platform is doing.
    StatusRead,
    /// Read the log, verify, back up; and all of the others.
    Admin,
}

impl Scope {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::EventsWrite, Self::FeedsRead, Self::QueriesRead, Self::StatusRead, Self::Admin];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsWrite => "events:write",
            Self::FeedsRead => "feeds:read",
            Self::QueriesRead => "queries:read",
            Self::StatusRead => "status:read",
            Self::Admin => "admin",
        }
    }

    /// True when it lets one read what the platform shows, and no more.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::FeedsRead | Self::QueriesRead | Self::StatusRead)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All that a key lets its holder do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// What a write key may.
    pub const WRITE: Self = Self(Scope::EventsWrite.bit());

    /// True when `scope` is among them, or [`Scope::Admin`].
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// True when one of them lets one read.
    pub fn reads(self) -> bool {
        Scope::ALL.into_iter().any(|scope| scope.is_read() && self.allow(scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0);
        f.debug_set().entries(named.map(Scope::as_str)).finish()
    }
}
