//! Which ids are one person: what follows from who belongs to whom, without any I/O.
//!
//! Each id has at most one [`IDENTITY`](crate::views::IDENTITY), so ids form trees, in which a person is the root, but for one
//! circle at most in each: there the person is the id of the circle that comes first in the order of bytes. Persons are not
//! stored: a link at the root would rewrite the whole tree, and each id has one writer, who does not know the others.
//!
//! Whoever resolves an id reads what [`Relatives::wanted`] names, all of it at once, until it names nothing. An id to which
//! nobody ever linked needs one such read.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::online::{ListItem, Result};
use crate::views::{self, IdentityRecord};

/// How many links an id may be away from its person. One that is farther away belongs to the id at which this ends. The named
/// queries of the warehouse join as often.
pub const HOPS_MAX: usize = 4;

/// How many ids of one person are known at a time: those nearest to the person, of equally near ones those that were linked
/// last. The id that was asked for is always among them.
pub const PERSON_IDS_MAX: usize = 32;

/// How many ids are looked at to find them: some claim to belong to the person and do not.
const READ_IDS_MAX: usize = 128;

/// What is stored about one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Whose it is; `None` when it was never linked to another.
    pub belongs_to: Option<IdentityRecord>,
    /// Which ids were said to belong to it, the latest first.
    pub claims: Vec<String>,
}

impl Links {
    /// Reads what is stored: the value of the id's [`views::IDENTITY`] and the head of its [`views::ALIASES`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the value is no such record.
    pub fn decode(identity: Option<Bytes>, aliases: Vec<ListItem>) -> Result<Self> {
        let belongs_to = identity.map(|value| views::decode("identity", value)).transpose()?;
        // Members are ids, checked to be UTF-8 when they came in.
        let claims = aliases.into_iter().filter_map(|item| String::from_utf8(item.member.into()).ok());
        Ok(Self { belongs_to, claims: claims.collect() })
    }

    fn parent(&self) -> Option<&str> {
        self.belongs_to.as_ref().map(|identity| identity.person_id.as_str())
    }
}

/// A person, as far as known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The id that stands for all of them.
    pub person_id: String,
    /// All of them, at most [`PERSON_IDS_MAX`].
    pub ids: Vec<PersonId>,
}

/// An id of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId {
    /// The id.
    pub id: String,
    /// Since when it belongs to another, microseconds; `None` when it does not.
    pub linked_at_us: Option<i64>,
}

/// The ids around one, as they are read.
#[derive(Clone, Debug)]
pub struct Relatives {
    id: String,
    known: BTreeMap<String, Links>,
}

impl Relatives {
    /// Of `id`, about which nothing is known yet.
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), known: BTreeMap::new() }
    }

    /// Notes what is stored about an id that was wanted.
    pub fn insert(&mut self, id: String, links: Links) {
        self.known.insert(id, links);
    }

    /// What has to be read next, each once; nothing when the person is known.
    pub fn wanted(&self) -> Vec<String> {
        let mut wanted = match self.resolve(&self.id) {
            Err(unknown) => vec![unknown.to_owned()],
            Ok(person) => self.descend(person).unknown,
        };
        wanted.truncate(READ_IDS_MAX.saturating_sub(self.known.len()));
        wanted
    }

    /// The person, from what is known.
    pub fn person(&self) -> Person {
        let person = self.resolve(&self.id).unwrap_or_else(|unknown| unknown);
        // Farther from their person than links are followed, some reach another.
        let mut ids: Vec<&str> = self.descend(person).found;
        ids.retain(|id| *id == self.id || self.resolve(id) == Ok(person));
        if !ids.contains(&self.id.as_str()) {
            ids.truncate(PERSON_IDS_MAX - 1);
            ids.push(&self.id);
        }
        let linked_at_us = |id: &str| Some(self.known.get(id)?.belongs_to.as_ref()?.linked_at_us);
        let ids = ids.into_iter().map(|id| PersonId { id: id.to_owned(), linked_at_us: linked_at_us(id) });
        Person { person_id: person.to_owned(), ids: ids.collect() }
    }

    /// The person of an id; or the id of which one has to know more.
    fn resolve<'a>(&'a self, id: &'a str) -> std::result::Result<&'a str, &'a str> {
        let (mut path, mut last) = (vec![id], id);
        for _ in 0..HOPS_MAX {
            let Some(parent) = self.known.get(last).ok_or(last)?.parent() else { return Ok(last) };
            if let Some(at) = path.iter().position(|passed| *passed == parent) {
                return Ok(path[at..].iter().min().copied().unwrap_or(parent));
            }
            path.push(parent);
            last = parent;
        }
        Ok(last)
    }

    /// The ids that belong to `person`, nearest first, and of which ones that may one has to know more.
    fn descend<'a>(&'a self, person: &'a str) -> Descent<'a> {
        let mut descent = Descent { found: vec![person], unknown: Vec::new() };
        let mut level = vec![person];
        for _ in 0..HOPS_MAX {
            let mut next = Vec::new();
            for parent in level {
                let Some(links) = self.known.get(parent) else {
                    descent.want(parent);
                    continue;
                };
                for claim in links.claims.iter().map(String::as_str) {
                    if descent.found.len() == PERSON_IDS_MAX || descent.found.contains(&claim) {
                        continue;
                    }
                    match self.known.get(claim) {
                        None => descent.want(claim),
                        Some(links) if links.parent() == Some(parent) => {
                            descent.found.push(claim);
                            next.push(claim);
                        }
                        // It belongs to somebody else, who was first.
                        Some(_) => {}
                    }
                }
            }
            level = next;
        }
        descent
    }
}

struct Descent<'a> {
    found: Vec<&'a str>,
    unknown: Vec<String>,
}

impl Descent<'_> {
    fn want(&mut self, id: &str) {
        if !self.unknown.iter().any(|wanted| wanted == id) {
            self.unknown.push(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
