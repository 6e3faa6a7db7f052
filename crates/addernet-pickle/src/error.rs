//! Why a pickle is refused.

/// What is wrong with a pickle, and where.
#[derive(Debug, thiserror::Error)]
#[error("byte {offset}: {problem}")]
pub struct PickleError {
    /// Start of the operation in question, in bytes from the start of the input.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong. The text is one line of readable length, without control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It names a function or class that is not on the caller's list: module and name, `os.system`,
    /// escaped and shortened where needed.
    #[error("it refers to `{0}`, which such a file has no use for; nothing was executed")]
    Forbidden(String),
    /// An operation of protocol 0 or 1, or one that hides what it refers to.
    #[error("operation {0:#04x} is not supported: save it again with the default pickle protocol")]
    Unsupported(u8),
    /// A protocol that does not exist, or is too old.
    #[error("it is of pickle protocol {0}, only 2 to 5 can be read")]
    Protocol(u8),
    /// More operations than the caller allows.
    #[error("it has more than {0} operations")]
    TooLong(usize),
    /// More open groups than any writer makes.
    #[error("it is nested too deeply")]
    TooDeep,
    /// It ends within a value.
    #[error("{announced} bytes are announced, but only {left} follow: it is truncated or damaged")]
    Truncated {
        /// Number of bytes that should follow; of a name, one more than there are.
        announced: u64,
        /// Number of bytes that do.
        left: usize,
    },
    /// No writer makes such a pickle.
    #[error("it {0}: it is damaged")]
    Damaged(String),
}

impl Problem {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Problem::Damaged(what.into())
    }

    pub(crate) fn underflow() -> Self {
        Problem::damaged("takes more values from the stack than there are")
    }

    pub(crate) fn forbidden(module: &str, name: &str) -> Self {
        Problem::Forbidden(format!("{}.{}", printable(module), printable(name)))
    }
}

/// `text` from a file, fit for a terminal.
fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut escaped = text.chars().flat_map(char::escape_debug);
    let mut shown: String = escaped.by_ref().take(LONGEST).collect();
    if escaped.next().is_some() {
        shown.push('…');
    }
    shown
}
