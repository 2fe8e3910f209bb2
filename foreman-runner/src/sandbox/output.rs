//! Keeps the head and the tail of a command's output, whatever its length.

use std::collections::VecDeque;

/// Collects bytes up to a limit: the first half as they come, then the last
/// half as a window.
#[derive(Debug)]
pub(crate) struct HeadTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_bytes_max: usize,
    tail_bytes_max: usize,
    dropped_bytes: u64,
}

impl HeadTail {
    /// A collector that keeps at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let head_bytes_max = bytes_max / 2;
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            head_bytes_max,
            tail_bytes_max: bytes_max - head_bytes_max,
            dropped_bytes: 0,
        }
    }

    /// Takes the next piece of output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.head_bytes_max.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.tail_bytes_max);
        if over > 0 {
            self.tail.drain(..over);
            self.dropped_bytes += over as u64;
        }
    }

    /// Whether something was left out.
    pub(crate) fn truncated(&self) -> bool {
        self.dropped_bytes > 0
    }

    /// What was kept, with a note where output is missing.
    pub(crate) fn into_text(self) -> String {
        let tail: Vec<u8> = self.tail.into();
        if self.dropped_bytes == 0 {
            let whole = [self.head, tail].concat();
            return String::from_utf8_lossy(&whole).into_owned();
        }
        format!(
            "{}\n[... {} bytes left out ...]\n{}",
            String::from_utf8_lossy(&self.head),
            self.dropped_bytes,
            String::from_utf8_lossy(&tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::HeadTail;

    fn collected(limit: usize, pieces: &[&str]) -> (String, bool) {
        let mut output = HeadTail::new(limit);
        for piece in pieces {
            output.push(piece.as_bytes());
        }
        let truncated = output.truncated();
        (output.into_text(), truncated)
    }

    #[test]
    fn output_up_to_the_limit_is_whole() {
        assert_eq!(collected(6, &["abc", "def"]), ("abcdef".to_owned(), false));
        assert_eq!(collected(6, &[]), (String::new(), false));
    }

    #[test]
    fn one_byte_over_the_limit_leaves_out_the_middle() {
        let expected = "abc\n[... 1 bytes left out ...]\nefg".to_owned();
        assert_eq!(collected(6, &["abcdefg"]), (expected.clone(), true));
        assert_eq!(collected(6, &["a", "b", "c", "d", "e", "f", "g"]), (expected, true));
    }
}
