//! Keys of job state: one byte for the table, then parts that cannot run into each other.

/// Builds a state key. Every part but the last carries its length, so that no two sequences of parts share a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateKey {
    bytes: Vec<u8>,
}

impl StateKey {
    /// A key in `table`, 1 to 254; the others belong to the store and to the root.
    pub fn new(table: u8) -> Self {
        debug_assert!(table > 0 && table < u8::MAX, "tables 0 and 255 are taken");
        let mut bytes = Vec::with_capacity(48);
        bytes.push(table);
        Self { bytes }
    }

    /// Adds a part with its length.
    #[must_use]
    pub fn part(mut self, part: &str) -> Self {
        // Ids are at most 200 bytes; a longer one cannot have passed the front door.
        self.bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(part.as_bytes());
        self
    }

    /// Adds the last part, without its length.
    #[must_use]
    pub fn last(mut self, part: &[u8]) -> Self {
        self.bytes.extend_from_slice(part);
        self
    }

    /// Adds a number, in byte order, so that keys sort by it.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
