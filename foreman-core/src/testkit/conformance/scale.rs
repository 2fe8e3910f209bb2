//! Many objects.

use futures::StreamExt;
use futures::stream;

use super::Subject;
use super::support::{Watching, created, names, patched, status, task};
use crate::model::Key;
use crate::ports::Query;

/// Objects of the case.
const OBJECTS: usize = 10_000;
/// Writes at the same time.
const AT_ONCE: usize = 256;

/// Ten thousand objects are made, listed, selected and watched, none missing, none twice.
pub async fn ten_thousand_objects(subject: &dyn Subject) {
    let tasks = subject.stores().tasks;
    let name = |number: usize| format!("t{number:05}");
    let creates = (0..OBJECTS).map(|number| {
        let lane = if number % 100 == 0 { "rare" } else { "common" };
        created(&*tasks, task(subject, &name(number)).label("lane", lane))
    });
    stream::iter(creates).buffer_unordered(AT_ONCE).for_each(async |_| {}).await;
    let chosen: Vec<usize> = (0..OBJECTS).step_by(50).collect();
    let placements = chosen.clone().into_iter().map(|number| {
        let key = Key::namespaced(subject.namespace(), name(number));
        let change = status().set("assignedNode", "n1").set("phase", "Scheduled");
        let tasks = tasks.clone();
        async move { patched(&*tasks, &key, change).await }
    });
    stream::iter(placements).buffer_unordered(AT_ONCE).for_each(async |_| {}).await;

    let here = Query::in_namespace(subject.namespace());
    let wanted: Vec<String> = (0..OBJECTS).map(name).collect();
    assert_eq!(names(&*tasks, here.clone()).await, wanted);
    let on_node: Vec<String> = chosen.iter().map(|number| name(*number)).collect();
    assert_eq!(names(&*tasks, here.clone().assigned_to("n1")).await, on_node);
    let rare: Vec<String> = (0..OBJECTS).step_by(100).map(name).collect();
    assert_eq!(names(&*tasks, here.clone().label("lane", "rare")).await, rare);
    let watching = Watching::open(&*tasks, here).await;
    let told: Vec<_> = watching.objects.values().map(|object| &object.meta.name).collect();
    assert_eq!(told, wanted.iter().collect::<Vec<_>>());
}
