//! The cases that every store must pass, callable on a store of one's own.
//!
//! Implement [`Subject`] for what makes your stores, then either write one line in a test file,
//! which makes one test of each case:
//!
//! ```ignore
//! foreman_core::store_conformance!(async || MySubject::new());
//! ```
//!
//! or call [`run_all`], or single cases. A case panics where the store is wrong. A case that waits
//! for an event waits without end; [`store_conformance!`](crate::store_conformance) bounds each by
//! [`CASE_DEADLINE`].
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a conformance case says what is wrong by panicking, like any test"
)]

pub mod admission;
pub mod concurrency;
pub mod create;
pub mod delete;
pub mod leases;
pub mod patch;
pub mod query;
pub mod scale;
mod support;
pub mod watch;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::model::Key;
use crate::ports::Stores;

/// How long a case may take before its test fails.
pub const CASE_DEADLINE: Duration = Duration::from_mins(5);

/// What is tested: stores of every kind over one backend, empty at first.
#[expect(clippy::unnecessary_literal_bound, reason = "a subject of one's own may make its names")]
#[async_trait]
pub trait Subject: Send + Sync {
    /// The stores.
    fn stores(&self) -> Stores;

    /// The same objects by another handle: for a file, opened again; for a server, another client.
    fn second_handle(&self) -> Stores {
        self.stores()
    }

    /// A namespace that holds nothing else.
    fn namespace(&self) -> &str {
        "default"
    }

    /// Another namespace that holds nothing else.
    fn other_namespace(&self) -> &str {
        "elsewhere"
    }

    /// What names and labels of cluster-scoped objects begin with, so that several subjects can
    /// share a server.
    fn prefix(&self) -> &str {
        "conformance"
    }

    /// Whether a deletion takes along what the object owns. A bare API server without a garbage
    /// collector does not.
    fn cascades(&self) -> bool {
        true
    }

    /// More changes than a watcher can be behind without being told everything again, if that is
    /// few enough to try.
    fn changes_past_any_buffer(&self) -> usize {
        2_000
    }

    /// Puts JSON under a key, unchecked, as another version might have written it. `false`: this
    /// store has no way to, or none to put an object that says another name of itself; what is about
    /// it is passed over.
    async fn put_raw(&self, kind: &'static str, key: &Key, object: Value) -> bool {
        let _ = (kind, key, object);
        false
    }
}

/// What a maker of subjects makes: a subject, or `None` where what it needs is not there; then the
/// maker has said so, and the case is not shown.
pub trait Made {
    /// The subject.
    type Subject: Subject;

    /// The subject, if it was made.
    fn subject(self) -> Option<Self::Subject>;
}

impl<S: Subject> Made for S {
    type Subject = S;

    fn subject(self) -> Option<S> {
        Some(self)
    }
}

impl<S: Subject> Made for Option<S> {
    type Subject = S;

    fn subject(self) -> Self {
        self
    }
}

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Shows it, or panics.
    pub run: for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs every case, each on a subject of its own.
pub async fn run_all<S: Subject>(make: impl AsyncFn() -> S) {
    for case in CASES {
        tracing::info!(case = case.name, "store conformance");
        (case.run)(&make().await).await;
    }
}

macro_rules! suite {
    ($d:tt $($module:ident { $($case:ident)+ })+) => {
        /// Every case.
        pub const CASES: &[Case] = &[
            $($(Case { name: stringify!($case), run: |subject| Box::pin($module::$case(subject)) },)+)+
        ];

        /// Makes one `#[tokio::test]` of each case of [`testkit::conformance`](
        /// crate::testkit::conformance). The argument is an async function or closure that makes a
        /// fresh [`Subject`](crate::testkit::conformance::Subject), or, where it cannot be tested,
        /// says why and makes `None`. The calling crate needs tokio with `macros`,
        /// `rt-multi-thread` and `time`.
        #[macro_export]
        macro_rules! store_conformance {
            ($d make:expr) => {
                $($(
                    #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let made = ($d make)().await;
                        let made = $crate::testkit::conformance::Made::subject(made);
                        let Some(subject) = made else { return };
                        let case = $crate::testkit::conformance::$module::$case(&subject);
                        let deadline = $crate::testkit::conformance::CASE_DEADLINE;
                        ::tokio::time::timeout(deadline, case).await.expect(stringify!($case));
                    }
                )+)+
            };
        }
    };
}

suite! { $
    create {
        what_is_created_is_read_back
        an_absent_object_is_none
        a_taken_name_is_refused_and_says_whose
        a_name_counts_within_kind_and_namespace
        a_uid_is_never_used_again
        scope_is_checked
    }
    patch {
        a_patch_changes_only_what_it_names
        a_patch_of_an_absent_object_is_not_found
        a_patch_at_an_old_revision_is_a_conflict
        a_patch_that_changes_nothing_keeps_the_revision
        every_change_has_a_revision_of_its_own
        the_generation_moves_with_the_spec_only
        spec_and_status_are_apart
        a_set_struct_replaces_and_keeps_what_it_does_not_know
        a_list_is_replaced_whole
        a_replaced_spec_loses_map_entries
        unknown_status_fields_survive
        unknown_enum_values_survive
        labels_and_annotations_change_one_by_one
        a_cleared_field_is_absent
        a_refused_patch_leaves_the_object
        what_was_written_is_read
    }
    admission {
        defaults_are_stored
        a_cleared_default_comes_back
        unknown_spec_fields_are_pruned
        bad_specs_are_refused_by_field_and_rule
        bad_status_is_refused_by_field_and_rule
        names_are_dns_subdomains
        labels_are_checked
        a_type_stands_once_in_a_condition_list
        an_object_may_be_large
        too_large_is_refused
    }
    query {
        a_list_is_complete_and_by_key
        lists_by_namespace
        lists_by_labels
        lists_by_node_and_phase
        lists_follow_changes
        texts_in_queries_are_only_compared
        an_unreadable_object_fails_no_list
        an_object_of_another_name_is_unreadable
        an_unreadable_object_can_be_mended_and_deleted
    }
    delete {
        a_deleted_object_is_gone
        a_delete_needs_the_uid
        a_delete_at_an_old_revision_is_a_conflict
        a_new_object_of_an_old_name_starts_afresh
        a_deletion_takes_what_is_owned_over_levels_and_kinds
        an_owner_is_known_by_its_uid
        owners_in_a_ring_end
    }
    watch {
        a_watch_begins_with_everything
        a_watch_tells_every_change
        what_leaves_the_query_is_gone
        a_new_uid_is_gone_and_new
        a_watch_is_about_its_query_only
        a_cascade_is_told_object_by_object
        an_unreadable_object_fails_no_watch
        writes_during_the_first_reading_are_not_missed
        a_watcher_that_is_behind_ends_up_right
        a_dropped_watch_disturbs_nobody
        a_watch_hears_other_handles
    }
    concurrency {
        of_many_creates_one_wins
        no_increment_is_lost
        of_many_claims_one_wins
        writers_of_different_fields_do_not_overwrite_each_other
        handles_see_each_other
    }
    scale {
        ten_thousand_objects
    }
}
