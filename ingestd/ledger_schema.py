"""The tables of the ledger. A change here needs a new ``user_version``, and a way up to it."""

LEDGER = "ledger.sqlite"
"""Its file, in the state directory."""

VERSION = 4

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    name BLOB NOT NULL,            -- path below the drop directory, as bytes
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    digest TEXT NOT NULL,          -- xxh3-128 of the file's bytes; '' where it was not read
    state TEXT NOT NULL,
    released INTEGER NOT NULL,     -- 1: moved, deleted or kept, as the config says
    reason TEXT,
    at_ns INTEGER NOT NULL,
    captures TEXT NOT NULL DEFAULT ''  -- JSON: what match captured of the name
);
CREATE INDEX IF NOT EXISTS files_by_name ON files (source, name);
CREATE INDEX IF NOT EXISTS files_by_digest ON files (substr(digest, 1, 8), mtime_ns);
CREATE INDEX IF NOT EXISTS files_unreleased ON files (id) WHERE released = 0;
CREATE TABLE IF NOT EXISTS placements (
    output TEXT NOT NULL,
    dataset TEXT NOT NULL,
    file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    first_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    digest TEXT NOT NULL,          -- xxh3-128 of the rows' bytes
    PRIMARY KEY (output, dataset, file_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS placements_by_file ON placements (file_id);
PRAGMA user_version = {VERSION};
"""

HAS_DIGEST = "substr(digest, 1, 8) = substr({0}, 1, 8) AND +digest = {0}"
"""A condition that the index serves: a file has the digest ``{0}``. Without the plus, SQLite would
put the one half into the other, and no longer see that it is what the index holds."""

UPGRADES = {
    1: """
DROP INDEX IF EXISTS files_by_digest;
DROP INDEX IF EXISTS files_pending;
""",
    2: "ALTER TABLE files ADD COLUMN captures TEXT NOT NULL DEFAULT '';",
    3: "DROP INDEX IF EXISTS files_by_digest;",
}
"""From each version to the next. From 1: a content that comes again and again is found by its
file's time, and pending files by not being released. From 2: captures stand with the file. From 3:
digests are found by their first digits, since most of what a file costs is this index."""
