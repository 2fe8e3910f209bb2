//! The SQL of objects and changes.

use std::borrow::Cow;
use std::sync::Arc;

use foreman_core::model::{Key, Uid, WallTime, apiserver};
use foreman_core::ports::Query;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use crate::hub::Entry;
use crate::limits::{CHANGES_KEPT_SECONDS, CHANGES_TRIMMED_MAX};

/// An object as it stands in the file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) revision: i64,
    pub(crate) uid: Uid,
    pub(crate) json: String,
}

/// The namespace column: empty for cluster-scoped kinds. An empty namespace is an absent one.
fn namespace(key: &Key) -> &str {
    key.namespace.as_deref().unwrap_or_default()
}

/// The key of a row whose first two columns are `ns` and `name`.
pub(crate) fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let namespace: String = row.get(0)?;
    let name = row.get(1)?;
    Ok(Key { namespace: (!namespace.is_empty()).then_some(namespace), name })
}

/// The object under a key.
pub(crate) fn find(
    connection: &Connection,
    kind: &str,
    key: &Key,
) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(
            "SELECT id, revision, uid, json FROM objects WHERE kind = ?1 AND ns = ?2 AND name = ?3",
        )?
        .query_row(params![kind, namespace(key), key.name], |row| {
            Ok(Stored {
                id: row.get(0)?,
                revision: row.get(1)?,
                uid: Uid::new(row.get::<_, String>(2)?),
                json: row.get(3)?,
            })
        })
        .optional()
}

/// The JSON text under a key.
pub(crate) fn find_json(
    connection: &Connection,
    kind: &str,
    key: &Key,
) -> rusqlite::Result<Option<String>> {
    Ok(find(connection, kind, key)?.map(|stored| stored.json))
}

/// The revision of the last change that was ever made.
pub(crate) fn last_revision(connection: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Calls `each` with key and JSON text of every object of a query, by key.
pub(crate) fn select(
    connection: &Connection,
    kind: &str,
    query: &Query,
    mut each: impl FnMut(Key, String),
) -> rusqlite::Result<()> {
    let mut sql = "SELECT ns, name, json FROM objects WHERE kind = ?".to_owned();
    let mut values = vec![SqlValue::Text(kind.to_owned())];
    let columns =
        [("ns", &query.namespace), ("node", &query.assigned_node), ("phase", &query.phase)];
    for (column, wanted) in columns {
        if let Some(wanted) = wanted {
            sql.push_str(" AND ");
            sql.push_str(column);
            sql.push_str(" = ?");
            values.push(SqlValue::Text(wanted.clone()));
        }
    }
    for (name, value) in &query.labels {
        // CASE, because SQLite may test a plain AND in any order, and json_each fails on bad JSON.
        sql.push_str(
            " AND CASE WHEN json_valid(objects.json) THEN EXISTS (SELECT 1 \
             FROM json_each(objects.json, '$.metadata.labels') AS label \
             WHERE label.key = ? AND label.value = ? AND label.type = 'text') ELSE 0 END",
        );
        values.push(SqlValue::Text(name.clone()));
        values.push(SqlValue::Text(value.clone()));
    }
    sql.push_str(" ORDER BY ns, name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        each(key(row)?, row.get(2)?);
    }
    Ok(())
}

/// The JSON of a row; null where the text is none, so that its reader says it is unreadable.
pub(crate) fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

/// An open transaction, and what it did so far.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    now: WallTime,
    done: Vec<Entry>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection, now: WallTime) -> Self {
        Self { connection, now, done: Vec::new() }
    }

    /// The time of this transaction.
    pub(crate) fn now(&self) -> WallTime {
        self.now
    }

    /// What it did.
    pub(crate) fn into_done(self) -> Vec<Entry> {
        self.done
    }

    /// The object under a key.
    pub(crate) fn find(&self, kind: &str, key: &Key) -> rusqlite::Result<Option<Stored>> {
        find(self.connection, kind, key)
    }

    /// Writes a new object; its revision is set in it.
    pub(crate) fn insert(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        key: &Key,
        mut object: Value,
    ) -> rusqlite::Result<Arc<Value>> {
        let kind = kind.into();
        let uid = apiserver::uid_of(&object);
        let revision = self.log(&kind, key, &uid, "put")?;
        let json = stamped(&mut object, revision);
        self.connection
            .prepare_cached(
                "INSERT INTO objects (kind, ns, name, uid, revision, node, phase, json) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                kind,
                namespace(key),
                key.name,
                uid.as_str(),
                revision,
                node(&object),
                phase(&object),
                json
            ])?;
        self.own(self.connection.last_insert_rowid(), &object)?;
        Ok(self.remember(kind, key, revision, object, json.len()))
    }

    /// Writes an object over the one that `stored` and `before` are; its revision is set in it.
    pub(crate) fn update(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        key: &Key,
        stored: &Stored,
        before: &Value,
        mut object: Value,
    ) -> rusqlite::Result<Arc<Value>> {
        let kind = kind.into();
        let revision = self.log(&kind, key, &apiserver::uid_of(&object), "put")?;
        let json = stamped(&mut object, revision);
        // SQLite rewrites the indexes of every column that an UPDATE names, changed or not.
        if (node(before), phase(before)) == (node(&object), phase(&object)) {
            self.connection
                .prepare_cached("UPDATE objects SET revision = ?2, json = ?3 WHERE id = ?1")?
                .execute(params![stored.id, revision, json])?;
        } else {
            self.connection
                .prepare_cached(
                    "UPDATE objects SET revision = ?2, json = ?3, node = ?4, phase = ?5 \
                     WHERE id = ?1",
                )?
                .execute(params![stored.id, revision, json, node(&object), phase(&object)])?;
        }
        let owners = "/metadata/ownerReferences";
        if before.pointer(owners) != object.pointer(owners) {
            self.disown(stored.id)?;
            self.own(stored.id, &object)?;
        }
        Ok(self.remember(kind, key, revision, object, json.len()))
    }

    /// Deletes an object and whatever it owns, of any kind, down to the last level.
    pub(crate) fn delete(
        &mut self,
        kind: &str,
        key: &Key,
        stored: &Stored,
    ) -> rusqlite::Result<()> {
        let mut doomed = vec![(stored.id, kind.to_owned(), key.clone(), stored.uid.clone())];
        while let Some((id, kind, key, uid)) = doomed.pop() {
            let deleted = self
                .connection
                .prepare_cached("DELETE FROM objects WHERE id = ?1")?
                .execute([id])?;
            if deleted == 0 {
                continue;
            }
            self.disown(id)?;
            let revision = self.log(&kind, &key, &uid, "delete")?;
            doomed.extend(self.owned_by(&uid)?);
            let kind = Cow::Owned(kind);
            self.done.push(Entry { revision, kind, key, object: None, bytes: 0 });
        }
        Ok(())
    }

    /// Takes what is too old, or one too many, off the log of changes: a bounded number of rows.
    pub(crate) fn trim(&self, kept_rows: i64) -> rusqlite::Result<()> {
        let last = last_revision(self.connection)?;
        let old = self.now.unix_seconds().saturating_sub(CHANGES_KEPT_SECONDS);
        self.connection
            .prepare_cached(
                "DELETE FROM changes WHERE rev IN (SELECT rev FROM changes ORDER BY rev LIMIT ?1) \
                 AND (rev <= ?2 OR at < ?3)",
            )?
            .execute(params![CHANGES_TRIMMED_MAX, last.saturating_sub(kept_rows), old])?;
        Ok(())
    }

    fn log(&self, kind: &str, key: &Key, uid: &Uid, op: &str) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached(
                "INSERT INTO changes (kind, ns, name, uid, op, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                kind,
                namespace(key),
                key.name,
                uid.as_str(),
                op,
                self.now.unix_seconds()
            ])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn own(&self, id: i64, object: &Value) -> rusqlite::Result<()> {
        for owner in apiserver::owners_of(object) {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO owners (owner, object) VALUES (?1, ?2)")?
                .execute(params![owner.as_str(), id])?;
        }
        Ok(())
    }

    fn disown(&self, id: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM owners WHERE object = ?1")?.execute([id])?;
        Ok(())
    }

    fn owned_by(&self, uid: &Uid) -> rusqlite::Result<Vec<(i64, String, Key, Uid)>> {
        self.connection
            .prepare_cached(
                "SELECT ns, name, id, kind, uid FROM objects JOIN owners ON owners.object = id \
                 WHERE owner = ?1",
            )?
            .query_map([uid.as_str()], |row| {
                Ok((row.get(2)?, row.get(3)?, key(row)?, Uid::new(row.get::<_, String>(4)?)))
            })?
            .collect()
    }

    fn remember(
        &mut self,
        kind: Cow<'static, str>,
        key: &Key,
        revision: i64,
        object: Value,
        bytes: usize,
    ) -> Arc<Value> {
        let object = Arc::new(object);
        let entry = Entry { revision, kind, key: key.clone(), object: Some(object.clone()), bytes };
        self.done.push(entry);
        object
    }
}

fn stamped(object: &mut Value, revision: i64) -> String {
    apiserver::set_revision(object, &foreman_core::model::Revision::new(revision.to_string()));
    serde_json::to_string(object).unwrap_or_else(|_| object.to_string())
}

fn node(object: &Value) -> Option<&str> {
    object.pointer("/status/assignedNode").and_then(Value::as_str)
}

fn phase(object: &Value) -> Option<&str> {
    object.pointer("/status/phase").and_then(Value::as_str)
}
