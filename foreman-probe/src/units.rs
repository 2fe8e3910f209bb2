//! From the machine's numbers to those of the model.

/// Bytes as whole GiB, rounded down, at most the largest int32.
pub(crate) fn bytes_to_gib(bytes: u64) -> i32 {
    i32::try_from(bytes >> 30).unwrap_or(i32::MAX)
}

/// A number as int32: below 0 is 0, above the maximum is the maximum.
pub(crate) fn clamp_int32(number: i64) -> i32 {
    i32::try_from(number.max(0)).unwrap_or(i32::MAX)
}
