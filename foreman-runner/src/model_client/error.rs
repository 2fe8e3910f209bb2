//! What can go wrong in a model call, after all repetitions.

/// A model call that gave no usable answer. No variant holds a credential, and none contains more of
/// a server's own words than a few hundred bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The caller cancelled it.
    #[error("the model call was cancelled")]
    Cancelled,
    /// The server refused our credentials.
    #[error(
        "the model server at {server} refused the credentials (HTTP {status}): {message}; check the API key of the agent"
    )]
    Unauthorized {
        /// Base URL.
        server: String,
        /// HTTP status, 401 or 403.
        status: u16,
        /// The server's words, cut and redacted.
        message: String,
    },
    /// The server refused the request for good.
    #[error("the model server at {server} refused the request (HTTP {status}): {message}")]
    Rejected {
        /// Base URL.
        server: String,
        /// HTTP status.
        status: u16,
        /// The server's words, cut and redacted.
        message: String,
    },
    /// The conversation no longer fits into the model's context.
    #[error(
        "the conversation is longer than the context that the model server at {server} offers: {message}"
    )]
    ContextTooLong {
        /// Base URL.
        server: String,
        /// The server's words, cut and redacted.
        message: String,
        /// Its context in tokens, where it said so.
        context_tokens: Option<u64>,
    },
    /// The server silently cut the prompt: the model did not see its task.
    #[error(
        "the model server at {server} counted {prompt_tokens} prompt tokens where at least {expected_tokens} were sent: \
         it cuts the prompt to its context; start it with a longer one (Ollama: OLLAMA_CONTEXT_LENGTH=65536 ollama serve)"
    )]
    ContextTruncated {
        /// Base URL.
        server: String,
        /// What the server counted.
        prompt_tokens: u64,
        /// What it must have been at the very least.
        expected_tokens: u64,
    },
    /// It could not be reached, was overloaded or cut the answer, each time we tried.
    #[error("the model server at {server} gave no answer in {attempts} attempts; last: {last}")]
    Unavailable {
        /// Base URL.
        server: String,
        /// How often it was tried.
        attempts: u32,
        /// What happened last.
        last: String,
    },
    /// The time for one turn is over.
    #[error(
        "the model server at {server} gave no complete answer within {seconds} s; last: {last}"
    )]
    TimedOut {
        /// Base URL.
        server: String,
        /// The limit.
        seconds: u64,
        /// What happened last.
        last: String,
    },
    /// What it answers is no chat completion.
    #[error(
        "the model server at {server} answers something that is no chat completion: {what}; is this the base URL of an OpenAI-compatible server?"
    )]
    NotChat {
        /// Base URL.
        server: String,
        /// What was seen.
        what: String,
    },
}
