//! Records as bytes: length (u32 LE), CRC32C over length and body (u32 LE), JSON body.

use super::record::Record;
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

/// Bytes before the body of a record.
const FRAME_BYTES: usize = 8;

/// What a file holds up to the first bad record.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The good records.
    pub records: Vec<Record>,
    /// How many bytes they take: the place to cut at.
    pub valid_bytes: u64,
    /// Whether something stands behind them.
    pub torn: bool,
}

/// A record as bytes, or how large it would be.
///
/// # Errors
/// The size of the body, when it is above [`JOURNAL_RECORD_BYTES_MAX`].
pub fn encode(record: &serde_json::Value) -> Result<Vec<u8>, usize> {
    let body = record.to_string();
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= JOURNAL_RECORD_BYTES_MAX)
        .ok_or(body.len())?;
    let length = length.to_le_bytes();
    let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, body.as_bytes()).to_le_bytes());
    bytes.extend_from_slice(body.as_bytes());
    Ok(bytes)
}

/// Reads records up to the first bad one: torn, damaged, absurdly long, or no record of ours.
pub fn decode(bytes: &[u8]) -> Decoded {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((record, tail)) = first(rest) {
        records.push(record);
        rest = tail;
    }
    let valid = bytes.len() - rest.len();
    Decoded { records, valid_bytes: valid as u64, torn: !rest.is_empty() }
}

fn first(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if size == 0 || size > JOURNAL_RECORD_BYTES_MAX {
        return None;
    }
    let (body, tail) = rest.split_at_checked(size)?;
    if checksum(*length, body) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, tail))
}

/// The length is part of the sum, so that a damaged length does not point at good bytes.
fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}
