//! Every bound of the runner in one place. Nothing here is a tuning knob: each one keeps a faulty
//! server, a confused model or a huge repository from taking the machine with it.

/// Whole body of one answer of a model server, in bytes (streamed or not).
pub const RESPONSE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// One line of a server-sent event stream, in bytes.
pub const SSE_LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Body of an error answer that we read at all, in bytes.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// What of a server's own error text we repeat to a person, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 600;
/// Tool calls in one assistant message that we accept from a server at all.
pub const CALLS_PER_MESSAGE_MAX: usize = 64;
/// Tool calls of one assistant message that are run; the rest is answered with an error.
pub const CALLS_RUN_PER_MESSAGE_MAX: usize = 16;
/// A call id longer than this many bytes is replaced by one of ours.
pub const CALL_ID_BYTES_MAX: usize = 64;
/// A tool name longer than this many bytes is cut before it is repeated to anyone.
pub const TOOL_NAME_BYTES_MAX: usize = 64;
/// How long after `finish_reason` we still wait for usage and `[DONE]`, in milliseconds.
pub const FINISH_GRACE_MS: u64 = 2_000;
/// Longest time a server may keep us waiting by Retry-After, in seconds.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 120;
/// First pause before a model call is sent again, in milliseconds; doubles each time.
pub const RETRY_DELAY_MS_MIN: u64 = 500;
/// Longest pause of our own choosing before a model call is sent again, in milliseconds.
pub const RETRY_DELAY_MS_MAX: u64 = 30_000;
/// How often one model call is sent again, unless the agent says otherwise.
pub const RETRIES_DEFAULT: u32 = 6;
/// Connecting to a model server, in seconds.
pub const CONNECT_SECONDS_MAX: u64 = 10;
/// Waiting for the first byte of an answer, in seconds, unless the agent says otherwise.
pub const HEADER_WAIT_SECONDS_DEFAULT: u64 = 120;
/// Silence within an answer, in seconds, unless the agent says otherwise.
pub const IDLE_SECONDS_DEFAULT: u64 = 120;
/// One model call with all its repetitions, in seconds, unless the agent says otherwise.
pub const TURN_SECONDS_DEFAULT: u64 = 3_600;
/// Tokens a model may write in one answer, unless the agent says otherwise.
pub const OUTPUT_TOKENS_DEFAULT: u32 = 8_192;
/// Body of a `/models` answer, in bytes.
pub const MODEL_LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Asking a server for its models, in seconds.
pub const MODEL_LIST_SECONDS_MAX: u64 = 10;
/// Thought that a model may write before a call in schema mode, in characters.
pub const SCHEMA_THOUGHT_CHARS_MAX: u32 = 200;

/// One result of a tool, in bytes; more keeps head and tail.
pub const TOOL_RESULT_BYTES_MAX: usize = 256 * 1024;
/// What one `read_file` shows, in bytes; the rest is read with `offset`.
pub const READ_BYTES_MAX: usize = 48 * 1024;
/// Lines one `read_file` shows unless asked for fewer.
pub const READ_LINES_MAX: usize = 1_500;
/// Characters of one line that `read_file` shows.
pub const READ_LINE_CHARS_MAX: usize = 2_000;
/// How far into a file `read_file` goes at all, in bytes.
pub const READ_SCAN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A file that `str_replace` edits, in bytes.
pub const EDIT_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Content that `write_file` takes, in bytes.
pub const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Matches that `grep` returns unless asked for fewer, and at most.
pub const GREP_MATCHES_DEFAULT: usize = 100;
/// Matches that `grep` returns at most, whatever is asked.
pub const GREP_MATCHES_MAX: usize = 1_000;
/// Characters of one matching line that `grep` shows.
pub const GREP_LINE_CHARS_MAX: usize = 300;
/// Files above this size are not searched, in bytes.
pub const GREP_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// One search, in seconds.
pub const GREP_SECONDS_MAX: u64 = 30;
/// Output of one command that the model sees, in bytes (head and tail).
pub const BASH_OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Running time of a command unless the model asks for more, in seconds.
pub const BASH_SECONDS_DEFAULT: u64 = 120;
/// Running time of a command whatever the model asks, in seconds.
pub const BASH_SECONDS_MAX: u64 = 1_800;
/// A shell command, in bytes.
pub const BASH_COMMAND_BYTES_MAX: usize = 64 * 1024;
/// A diff that the model sees, in bytes (head and tail).
pub const DIFF_BYTES_MAX: usize = 96 * 1024;
/// Path given by a model, in bytes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Symbolic links followed while one path is resolved.
pub const SYMLINKS_MAX: usize = 40;
/// Findings of one review.
pub const FINDINGS_MAX: usize = 100;
/// Summary of a submission, in bytes; more is cut.
pub const SUMMARY_BYTES_MAX: usize = 8 * 1024;
/// Commit message of a submission, in bytes; more is cut.
pub const COMMIT_MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Free JSON of a submission, in bytes; more is dropped and said.
pub const EXTRA_BYTES_MAX: usize = 32 * 1024;

/// Journal of one attempt, in bytes.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One record of a journal, in bytes.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Journals that name each other as parents and are read as one conversation.
pub const JOURNAL_CHAIN_MAX: usize = 1_000;
/// Bytes of such a chain together.
pub const JOURNAL_CHAIN_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long the journal of an ended task is kept, in seconds.
pub const JOURNAL_KEEP_SECONDS: u64 = 7 * 24 * 3_600;
/// How long workspaces and patches of ended tasks are kept, in seconds.
pub const WORK_KEEP_SECONDS: u64 = 7 * 24 * 3_600;
/// What the journals of ended tasks may take together, in bytes.
pub const JOURNAL_KEEP_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Turns before the limit at which the model is told.
pub const TURNS_WARNED_BEFORE_LIMIT: u32 = 3;
/// Replies of prose without a call in a row that are answered with a nudge.
pub const PROSE_NUDGES_MAX: u32 = 2;
/// Replies of reasoning alone, or empty ones, in a row that are answered with a nudge.
pub const EMPTY_NUDGES_MAX: u32 = 4;
/// Replies cut at the output limit without a call in a row that are answered with a nudge.
pub const CUT_NUDGES_MAX: u32 = 3;
/// Turns in a row in which no call could be understood, before the run ends.
pub const MALFORMED_TURNS_MAX: u32 = 3;
/// The same call this often, without an edit between, is a loop (default of the agent's setting).
pub const REPEATED_CALLS_DEFAULT: u32 = 5;
/// Turns without an edit before a coder is warned (default of the agent's setting).
pub const EDIT_FREE_TURNS_DEFAULT: u32 = 15;
/// Turns a coder still has after that warning.
pub const EDIT_FREE_GRACE_TURNS: u32 = 5;
/// Turns that reading new places adds to the edit-free limit at most.
pub const EDIT_FREE_READ_BONUS_MAX: u32 = 8;

/// Text of an issue or an instructions file that goes into a prompt, in bytes.
pub const QUOTED_BYTES_MAX: usize = 32 * 1024;
/// A secret shorter than this many bytes is not searched for: it would hit innocent text.
pub const SECRET_BYTES_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::assertions_on_constants,
        reason = "the point is the relation between constants"
    )]
    fn bounds_fit_into_each_other() {
        assert!(SSE_LINE_BYTES_MAX < RESPONSE_BYTES_MAX);
        assert!(READ_BYTES_MAX < TOOL_RESULT_BYTES_MAX);
        assert!(BASH_OUTPUT_BYTES_MAX < TOOL_RESULT_BYTES_MAX);
        assert!(DIFF_BYTES_MAX < TOOL_RESULT_BYTES_MAX);
        assert!(GREP_MATCHES_MAX * GREP_LINE_CHARS_MAX < 2 * TOOL_RESULT_BYTES_MAX);
        assert!((JOURNAL_RECORD_BYTES_MAX as u64) < JOURNAL_BYTES_MAX);
        assert!(JOURNAL_BYTES_MAX < JOURNAL_CHAIN_BYTES_MAX);
        assert!(TOOL_RESULT_BYTES_MAX * 7 < JOURNAL_RECORD_BYTES_MAX, "JSON escapes a byte as six");
        assert!(CALLS_RUN_PER_MESSAGE_MAX < CALLS_PER_MESSAGE_MAX);
        assert!(RETRY_DELAY_MS_MIN < RETRY_DELAY_MS_MAX);
        assert!(RETRY_DELAY_MS_MAX < TURN_SECONDS_DEFAULT * 1_000);
        assert!(BASH_SECONDS_DEFAULT < BASH_SECONDS_MAX);
    }
}
