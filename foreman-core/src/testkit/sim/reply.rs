//! An answer that comes later: given once by whoever serves, awaited by whoever asked.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::engine::lock;

/// Where an answer is put, and how it is waited for. Nobody minds when the asker is gone.
pub(crate) struct Reply<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for Reply<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Slot { answer: None, waker: None })))
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Reply<T> {
    /// Gives the answer.
    pub(crate) fn give(&self, answer: T) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.answer = Some(answer);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Reply<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = lock(&self.0);
        if let Some(answer) = slot.answer.take() {
            return Poll::Ready(answer);
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
