//! What other processes did, read from the log of changes.

use std::borrow::Cow;
use std::sync::Arc;

use foreman_core::model::Key;
use rusqlite::{Connection, params};

use crate::hub::Entry;
use crate::rows::{find_json, key, parse};

/// What other processes did to the store since a revision.
#[derive(Debug)]
pub(crate) enum Foreign {
    /// The objects that changed, each at its last change, in order.
    Changes(Vec<Entry>),
    /// Too many, or no longer in the log.
    Lost,
}

/// The changes after `from`, up to and including `to`, with the objects as they are now. Call inside
/// a transaction.
pub(crate) fn changes_since(
    connection: &Connection,
    from: i64,
    to: i64,
    most: i64,
) -> rusqlite::Result<Foreign> {
    if to - from > most {
        return Ok(Foreign::Lost);
    }
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(rev) FROM changes")?
        .query_row([], |row| row.get(0))?;
    if oldest.is_none_or(|oldest| oldest > from + 1) {
        return Ok(Foreign::Lost);
    }
    let mut statement = connection.prepare_cached(
        "SELECT ns, name, kind, max(rev) AS last FROM changes WHERE rev > ?1 AND rev <= ?2 \
         GROUP BY kind, ns, name ORDER BY last",
    )?;
    let mut rows = statement.query(params![from, to])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, kind): (Key, String) = (key(row)?, row.get(2)?);
        let json = find_json(connection, &kind, &key)?;
        entries.push(Entry {
            revision: row.get(3)?,
            bytes: json.as_deref().map_or(0, str::len),
            object: json.map(|json| Arc::new(parse(&json))),
            kind: Cow::Owned(kind),
            key,
        });
    }
    Ok(Foreign::Changes(entries))
}
