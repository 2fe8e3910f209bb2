//! Splits a stream of bytes into the data of server-sent events.
//!
//! An own splitter, because it must be bounded and linear: one line has a limit, bytes that are no
//! UTF-8 cost a replacement character and not the run, and a line that comes in thousands of pieces
//! is scanned once.

use crate::limits::SSE_LINE_BYTES_MAX;

/// Collects lines into events.
#[derive(Debug, Default)]
pub(super) struct SseSplitter {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    after_cr: bool,
}

/// A line, or an event of several lines, went over its limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

impl SseSplitter {
    /// Takes the next bytes and appends the data of each completed event to `events`.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<String>,
    ) -> Result<(), LineTooLong> {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (body, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), body)) => (body, Some(*end)),
                _ => (piece, None),
            };
            // "\r\n" is one line end, even when it is split over two pieces.
            if end == Some(b'\n') && body.is_empty() && self.line.is_empty() && self.after_cr {
                self.after_cr = false;
                continue;
            }
            self.after_cr = end == Some(b'\r');
            if self.line.len() + body.len() > SSE_LINE_BYTES_MAX {
                return Err(LineTooLong);
            }
            self.line.extend_from_slice(body);
            if end.is_some() {
                self.end_line(events)?;
            }
        }
        Ok(())
    }

    /// The stream is over: an event without its blank line still counts.
    pub(super) fn finish(mut self, events: &mut Vec<String>) -> Result<(), LineTooLong> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        self.end_event(events);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<String>) -> Result<(), LineTooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.end_event(events);
            return Ok(());
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if self.data.len() + data.len() > SSE_LINE_BYTES_MAX {
                return Err(LineTooLong);
            }
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(data));
            self.has_data = true;
        }
        // Comments, `event:`, `id:` and `retry:` say nothing that we need.
        Ok(())
    }

    fn end_event(&mut self, events: &mut Vec<String>) {
        if self.has_data {
            events.push(std::mem::take(&mut self.data));
            self.has_data = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = SseSplitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(piece, &mut events).expect("within limits");
        }
        splitter.finish(&mut events).expect("within limits");
        events
    }

    #[test]
    fn comments_line_ends_and_multi_line_events() {
        let text = b": ping\r\nevent: x\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:two\n\n\n\nid: 4\ndata: [DONE]";
        assert_eq!(split(&[text]), ["{\"a\":\n1}", "two", "[DONE]"]);
        assert_eq!(split(&[b"data: a\r", b"\n\r", b"\ndata: b\r\r"]), ["a", "b"]);
        assert_eq!(split(&[b"data: \xff\xfe\n\n"]), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut splitter = SseSplitter::default();
        let mut events = Vec::new();
        let chunk = vec![b'x'; 1024 * 1024];
        let refused = (0..=SSE_LINE_BYTES_MAX / chunk.len())
            .any(|_| splitter.push(&chunk, &mut events).is_err());
        assert!(refused);
    }

    proptest! {
        #[test]
        fn the_cuts_between_pieces_do_not_matter(text in "(data: [a-c]{0,3}|: c|\r\n|\n|\r){0,20}", cut in 0usize..200) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(split(&[a, b]), split(&[bytes]));
        }
    }
}
