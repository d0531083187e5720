//! The commands, one file each. They talk to a server over HTTP unless they are the server.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod local;
pub(crate) mod migrate;
pub(crate) mod plans;
pub(crate) mod rebuild;
pub(crate) mod restore;
pub(crate) mod sender;
pub(crate) mod settings;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod verify;
