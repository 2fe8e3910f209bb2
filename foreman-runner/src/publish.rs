//! Pushing: the only code that changes anything outside this machine.
//!
//! It needs a [`Permit`] and asks it again each second; the child is killed when
//! it lapses. The remote has the last word: every push names the commit that the
//! branch must still be at.

use foreman_core::Permit;
use tokio_util::sync::CancellationToken;

mod push;

pub use push::{PublishError, PushRequest, Pushed, check_push_right, look_up};

#[cfg(test)]
pub(crate) use push::push_as as push_for_tests;

/// Pushes `request.commit`, unless it is there already.
///
/// # Errors
/// `Refused` when somebody else moved the branch, `NotOurs` when the permit is
/// for another claim, `Git` for everything that git says, among it `NotAllowed`
/// when the permit lapsed.
pub async fn push(
    request: &PushRequest<'_>,
    permit: &Permit,
    cancel: &CancellationToken,
) -> Result<Pushed, PublishError> {
    let fence = permit.fence();
    push::push_as(request, fence.uid.as_str(), fence.attempt, || permit.still_holds(), cancel).await
}
