//! The layout of the file, version by version. A step is never edited once it was released: a file
//! of any age walks the same way up.

use rusqlite::Connection;

/// `PRAGMA application_id` of our files: "FRMN".
pub(crate) const APPLICATION_ID: i32 = 0x4652_4d4e;

/// Step `n` makes version `n + 1` of version `n`.
pub(crate) const STEPS: [&str; 2] = [OBJECTS_AND_CHANGES, OWNERS_AND_AGES];

/// The version that this program reads and writes.
pub(crate) fn supported() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Version 1: the objects as JSON, with the columns that queries select by; and the log of changes,
/// whose `rev` is the objects' `resourceVersion`. `ns` is empty for cluster-scoped kinds.
const OBJECTS_AND_CHANGES: &str = "
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    revision INTEGER NOT NULL,
    node TEXT,
    phase TEXT,
    json TEXT NOT NULL
);
CREATE UNIQUE INDEX objects_by_key ON objects (kind, ns, name);
CREATE INDEX objects_by_node ON objects (kind, node) WHERE node IS NOT NULL;
CREATE INDEX objects_by_phase ON objects (kind, phase) WHERE phase IS NOT NULL;
CREATE TABLE changes (
    rev INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('put', 'delete'))
);
";

/// Version 2: owners by index, so that a cascade reads no object it does not delete; and the age of
/// a change, so that the log can be cut by time.
const OWNERS_AND_AGES: &str = "
CREATE TABLE owners (
    owner TEXT NOT NULL,
    object INTEGER NOT NULL,
    PRIMARY KEY (owner, object)
) WITHOUT ROWID;
CREATE INDEX owners_by_object ON owners (object);
INSERT OR IGNORE INTO owners (owner, object)
    SELECT json_extract(reference.value, '$.uid'), objects.id
    FROM objects, json_each(
        CASE WHEN json_valid(objects.json) THEN objects.json ELSE '{}' END,
        '$.metadata.ownerReferences'
    ) AS reference
    WHERE json_extract(reference.value, '$.uid') IS NOT NULL;
ALTER TABLE changes ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
";

/// The version of a file; 0 for one that holds nothing yet.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

/// Takes a file from version `from` to the next, inside the caller's transaction.
pub(crate) fn step(connection: &Connection, from: i64) -> rusqlite::Result<()> {
    let step = usize::try_from(from).ok().and_then(|from| STEPS.get(from));
    if let Some(step) = step {
        connection.execute_batch(step)?;
        connection.pragma_update(None, "user_version", from + 1)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(())
}
