//! What a person declares overrides what was probed.

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::model::open::Open;
use foreman_core::ports::{CapabilityProbe, ProbeError};
use foreman_probe::{Declared, DeclaredProbe};
use proptest::prelude::*;

#[test]
fn ram_table() {
    // (flag, probed total, probed available) → (total, available)
    let table = [
        ((None, None, None), (None, None)),
        ((None, Some(64), Some(40)), (Some(64), Some(40))),
        ((None, Some(64), None), (Some(64), None)),
        ((None, None, Some(40)), (None, Some(40))),
        ((None, Some(16), Some(40)), (Some(16), Some(16))),
        ((Some(32), Some(64), Some(40)), (Some(32), Some(32))),
        ((Some(32), Some(64), Some(10)), (Some(32), Some(10))),
        ((Some(128), Some(64), Some(40)), (Some(128), Some(40))),
        ((Some(32), None, None), (Some(32), Some(32))),
        ((Some(32), Some(64), None), (Some(32), Some(32))),
        ((Some(0), Some(64), Some(40)), (Some(0), Some(0))),
    ];
    for ((flag, total, available), expected) in table {
        let probed = Capability {
            total_ram_gb: total,
            available_ram_gb: available,
            ..Capability::default()
        };
        let declared = Declared { total_ram_gb: flag, ..Declared::default() };
        let merged = declared.apply(probed);
        let merged = (merged.total_ram_gb, merged.available_ram_gb);
        assert_eq!(merged, expected, "{flag:?} {total:?} {available:?}");
    }
}

#[test]
fn each_flag_replaces_its_field_and_nothing_else() {
    let probed = Capability {
        accelerator: Some(Accelerator::Cuda.into()),
        installed_models: vec!["a".to_owned()],
        max_context_tokens: Some(4096),
        total_ram_gb: Some(64),
        available_ram_gb: Some(40),
        ..Capability::default()
    };
    assert_eq!(Declared::default().apply(probed.clone()), probed);
    let declared = Declared {
        accelerator: Some("vulkan".to_owned()),
        installed_models: Some(vec!["b".to_owned(), "c".to_owned()]),
        max_context_tokens: Some(i64::MAX),
        tokens_per_second: Some(-5),
        total_ram_gb: Some(i64::from(i32::MAX) + 1),
        namespaces: Some(vec!["team".to_owned()]),
    };
    let expected = Capability {
        accelerator: Some(Accelerator::Vulkan.into()),
        installed_models: vec!["b".to_owned(), "c".to_owned()],
        max_context_tokens: Some(i32::MAX),
        tokens_per_second: Some(0),
        total_ram_gb: Some(i32::MAX),
        available_ram_gb: Some(40),
        namespaces: vec!["team".to_owned()],
        ..Capability::default()
    };
    assert_eq!(declared.apply(probed), expected);
}

#[test]
fn an_absent_accelerator_stays_absent_and_an_odd_one_is_kept() {
    assert_eq!(Declared::default().apply(Capability::default()).accelerator, None);
    let odd = Declared { accelerator: Some("npu".to_owned()), ..Declared::default() };
    let capability = odd.apply(Capability::default());
    assert_eq!(capability.accelerator, Some(Open::Other("npu".to_owned())));
}

/// Answers with what it was given.
struct Fixed(Result<Capability, ProbeError>);

#[async_trait]
impl CapabilityProbe for Fixed {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_declared_probe_wraps_another() {
    let declared = Declared { total_ram_gb: Some(8), ..Declared::default() };
    let inner = Arc::new(Fixed(Ok(Capability::default())));
    let capability = DeclaredProbe::new(inner, declared.clone()).probe().await.expect("probed");
    assert_eq!((capability.total_ram_gb, capability.available_ram_gb), (Some(8), Some(8)));
    let error = ProbeError { part: "x".to_owned(), reason: "y".to_owned() };
    let inner = Arc::new(Fixed(Err(error.clone())));
    assert_eq!(DeclaredProbe::new(inner, declared).probe().await, Err(error));
}

proptest! {
    #[test]
    fn available_never_exceeds_total(
        flag in any::<Option<i64>>(),
        total in proptest::option::of(0..i32::MAX),
        available in proptest::option::of(0..i32::MAX),
    ) {
        let probed = Capability {
            total_ram_gb: total,
            available_ram_gb: available,
            ..Capability::default()
        };
        let declared = Declared { total_ram_gb: flag, ..Declared::default() };
        let capability = declared.apply(probed);
        if let (Some(total), Some(available)) = (capability.total_ram_gb, capability.available_ram_gb) {
            prop_assert!(available <= total && available >= 0);
        }
        if flag.is_some() {
            prop_assert!(capability.available_ram_gb.is_some());
        }
    }
}
