//! When a failed model call is sent again.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::limits::{RETRY_AFTER_SECONDS_MAX, RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN};

/// The HTTP statuses after which a second try may help.
pub(super) fn status_may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429) || status >= 500
}

/// What Retry-After asks for: seconds or an HTTP date, cut at [`RETRY_AFTER_SECONDS_MAX`].
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        }
        Ok(_) => return None,
        Err(_) => {
            httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO)
        }
    };
    Some(asked.min(Duration::from_secs(RETRY_AFTER_SECONDS_MAX)))
}

/// Pauses that double, with jitter of half their length, from a seed that the caller chose.
#[derive(Debug)]
pub(super) struct Backoff {
    step: u32,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { step: 0, random: seed | 1 }
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let full =
            RETRY_DELAY_MS_MIN.saturating_mul(1 << self.step.min(20)).min(RETRY_DELAY_MS_MAX);
        self.step += 1;
        // xorshift: spreading clients is all that is asked of it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_millis(full / 2 + self.random % (full / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(value: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(RETRY_AFTER, HeaderValue::from_str(value).expect("a header value"));
        map
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (value, want) in [
            ("2", Some(2_000)),
            ("0.25", Some(250)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("1e300", Some(RETRY_AFTER_SECONDS_MAX * 1_000)),
            ("99999", Some(RETRY_AFTER_SECONDS_MAX * 1_000)),
            ("-1", None),
            ("soon", None),
            ("NaN", None),
        ] {
            assert_eq!(
                retry_after(&headers(value), now),
                want.map(Duration::from_millis),
                "{value}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn pauses_double_up_to_their_limit() {
        let mut backoff = Backoff::new(7);
        let mut full = RETRY_DELAY_MS_MIN;
        for _ in 0..40 {
            let pause = u64::try_from(backoff.next().as_millis()).expect("small");
            assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
            full = (full * 2).min(RETRY_DELAY_MS_MAX);
        }
    }
}
