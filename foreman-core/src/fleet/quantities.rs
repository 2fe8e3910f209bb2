//! Numbers as the wire holds them.

const GIB: u64 = 1 << 30;

/// Whole GiB in `bytes`, rounded down, at most `i32::MAX`.
pub fn bytes_to_gib(bytes: u64) -> i32 {
    i32::try_from(bytes / GIB).unwrap_or(i32::MAX)
}

/// A number as a non-negative int32: below zero is zero, above the maximum is the maximum.
pub fn clamp_int32(number: i64) -> i32 {
    i32::try_from(number.max(0)).unwrap_or(i32::MAX)
}

/// Total and available memory, in GiB, from what was probed and what a flag says. The flag replaces
/// the total; available is the lesser of flag and probed, or the flag where nothing was probed.
/// Available never exceeds total.
pub fn ram(
    probed_total: Option<i32>,
    probed_available: Option<i32>,
    flag: Option<i32>,
) -> (Option<i32>, Option<i32>) {
    let total = flag.or(probed_total);
    let available = match (flag, probed_available) {
        (Some(flag), Some(probed)) => Some(flag.min(probed)),
        (Some(flag), None) => Some(flag),
        (None, probed) => probed,
    };
    let available = match (total, available) {
        (Some(total), Some(available)) => Some(available.min(total)),
        (None | Some(_), available) => available,
    };
    (total, available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_floored_and_saturate() {
        assert_eq!(bytes_to_gib(0), 0);
        assert_eq!(bytes_to_gib(GIB - 1), 0);
        assert_eq!(bytes_to_gib(GIB), 1);
        assert_eq!(bytes_to_gib(64 * GIB - 1), 63);
        assert_eq!(bytes_to_gib(u64::MAX), i32::MAX);
    }

    #[test]
    fn int32_is_clamped_at_both_ends() {
        assert_eq!(clamp_int32(-1), 0);
        assert_eq!(clamp_int32(i64::MIN), 0);
        assert_eq!(clamp_int32(7), 7);
        assert_eq!(clamp_int32(i64::MAX), i32::MAX);
    }

    #[test]
    fn a_ram_flag_replaces_the_total_and_bounds_what_is_available() {
        let cases = [
            ((Some(64), Some(40), None), (Some(64), Some(40))),
            ((Some(64), Some(40), Some(32)), (Some(32), Some(32))),
            ((Some(64), Some(40), Some(128)), (Some(128), Some(40))),
            ((None, None, Some(32)), (Some(32), Some(32))),
            ((None, None, None), (None, None)),
            ((Some(8), Some(9), None), (Some(8), Some(8))),
            ((None, Some(9), None), (None, Some(9))),
        ];
        for ((total, available, flag), wanted) in cases {
            assert_eq!(ram(total, available, flag), wanted);
        }
    }
}
