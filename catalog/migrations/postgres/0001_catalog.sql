-- One row: the revision of the catalog, up to where tombstones were forgotten, and how many entries there are.
CREATE TABLE catalog_state (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    revision BIGINT NOT NULL,
    forgotten BIGINT NOT NULL,
    entries BIGINT NOT NULL
);
INSERT INTO catalog_state (only_one, revision, forgotten, entries) VALUES (1, 0, 0, 0);

-- An entry without a document is a tombstone: it was deleted at this revision.
CREATE TABLE catalog_entries (
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    document TEXT,
    bytes INTEGER NOT NULL,
    revision BIGINT NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX catalog_tombstones ON catalog_entries (revision) WHERE document IS NULL;
