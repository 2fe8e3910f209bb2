//! Opening: the place, the version, what is refused.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use foreman_core::model::{AgenticTask, FleetNode, Workload};
use foreman_core::ports::{Expect, Query, Store};
use foreman_core::testkit::sim::{SimClock, SimEntropy};

use super::{Place, create, key, names};
use crate::{OpenError, SqliteStore, schema};

const VERSION_1: &str = include_str!("../../fixtures/version-1.sql");

fn open(path: &Path) -> Result<std::sync::Arc<SqliteStore>, OpenError> {
    SqliteStore::open(path, SimClock::new(), SimEntropy::new(7))
}

fn refused(path: &Path) -> OpenError {
    open(path).expect_err("it must be refused")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let place = Place::new();
    let path = place.directory.path().join("new/deeper/foreman.db");
    let store = open(&path).expect("open");
    create(&store, "a").await;
    assert_eq!(mode(path.parent().expect("a directory")), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        assert_eq!(mode(Path::new(&file)), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let place = Place::new();
    let made = create(&place.open(), "a").await;
    let store = place.open();
    assert_eq!(store.get(&key("a")).await, Ok(Some(made.clone())));
    // Revisions go on where they were: an old one never comes again.
    let second = create(&store, "b").await;
    assert_ne!(second.revision(), made.revision());
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    for content in ["hello", "\0\0\0\0", &"not a database\n".repeat(1_000)] {
        let place = Place::new();
        std::fs::write(place.file(), content).expect("write");
        let error = refused(&place.file());
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
        assert!(error.to_string().contains("foreman.db"), "{error}");
        assert_eq!(std::fs::read(place.file()).expect("read"), content.as_bytes());
    }
}

#[test]
fn a_database_of_another_program_is_refused() {
    let place = Place::new();
    place.raw().execute_batch("CREATE TABLE cookies (a); PRAGMA user_version = 2").expect("write");
    let error = refused(&place.file());
    assert!(matches!(error, OpenError::ForeignDatabase { found: 0, .. }), "{error:?}");
}

#[test]
fn a_directory_is_refused() {
    let place = Place::new();
    let error = refused(place.directory.path());
    assert!(matches!(error, OpenError::Sqlite { .. }), "{error:?}");
    assert!(error.source().is_some());
}

#[test]
fn a_newer_file_is_refused_by_both_versions_and_left_alone() {
    let place = Place::new();
    drop(place.open());
    place.raw().pragma_update(None, "user_version", 99).expect("update");
    let before = std::fs::read(place.file()).expect("read");
    let error = refused(&place.file());
    let text = error.to_string();
    let supported = format!("up to {}", schema::supported());
    assert!(text.contains("version 99") && text.contains(&supported), "{text}");
    assert_eq!(std::fs::read(place.file()).expect("read"), before);
}

#[tokio::test]
async fn version_1_is_migrated_after_a_backup() {
    let place = Place::new();
    place.raw().execute_batch(VERSION_1).expect("the fixture");
    let store = open(&place.file()).expect("open");
    assert_eq!(schema::version(&place.raw()).expect("version"), schema::supported());

    let tasks = Store::<AgenticTask>::list(&*store, &Query::all().assigned_to("n1")).await;
    let tasks = tasks.expect("list").objects;
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].status.attempt, tasks[0].revision().as_str()), (Some(1), "5"));
    let all = Store::<AgenticTask>::list(&*store, &Query::all()).await.expect("list");
    assert_eq!(all.unreadable.len(), 1, "the damaged row is still there, and named");
    let nodes = Store::<FleetNode>::list(&*store, &Query::all()).await.expect("list");
    assert_eq!(nodes.objects.len(), 1);
    let made = create(&store, "new").await;
    assert_eq!(made.revision().as_str(), "6", "revisions go on");

    // The owner that version 1 knew only as JSON takes its task along.
    let owner = Store::<Workload>::get(&*store, &key("w")).await.expect("get").expect("present");
    Store::<Workload>::delete(&*store, &key("w"), owner.uid(), Expect::Any).await.expect("delete");
    assert_eq!(names(&store).await, ["new"]);

    let backup = place.directory.path().join("foreman.db.v1.backup");
    assert_eq!(mode(&backup), 0o600);
    let backup = rusqlite::Connection::open(backup).expect("open");
    assert_eq!(schema::version(&backup).expect("version"), 1);
    let rows: i64 =
        backup.query_row("SELECT count(*) FROM objects", [], |row| row.get(0)).expect("count");
    assert_eq!(rows, 4);
}

#[test]
fn a_new_file_has_no_backup() {
    let place = Place::new();
    drop(place.open());
    let files: Vec<_> = std::fs::read_dir(place.directory.path())
        .expect("read")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(files, ["foreman.db"], "also: closing leaves no log behind");
}

#[test]
fn a_migration_without_room_for_its_backup_is_not_begun() {
    let place = Place::new();
    place.raw().execute_batch(VERSION_1).expect("the fixture");
    std::fs::create_dir(place.directory.path().join("foreman.db.v1.backup")).expect("in the way");
    let error = refused(&place.file());
    assert!(matches!(error, OpenError::Backup { .. }), "{error:?}");
    assert!(error.source().is_some());
    assert_eq!(schema::version(&place.raw()).expect("version"), 1);
}

#[test]
fn many_may_open_an_old_file_at_once() {
    let place = Place::new();
    place.raw().execute_batch(VERSION_1).expect("the fixture");
    let path = place.file();
    std::thread::scope(|scope| {
        let opens: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path).map(drop))).collect();
        for open in opens {
            open.join().expect("no panic").expect("open");
        }
    });
    assert_eq!(schema::version(&place.raw()).expect("version"), schema::supported());
}
