//! What can be wrong with a vocabulary or with marks in a text.

/// Why a vocabulary was refused or marks do not fit their text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One type per token is required.
    #[error("the vocabulary has {tokens} tokens but {types} token types; the two lists must be equally long")]
    Lengths {
        /// Number of tokens.
        tokens: usize,
        /// Number of types.
        types: usize,
    },
    /// Ids beyond this are no V4 vocabulary (129,280 tokens) but a damaged file.
    #[error("the vocabulary has {tokens} tokens; at most {limit} are supported")]
    TooLarge {
        /// Number of tokens, or the largest id plus one.
        tokens: usize,
        /// The largest accepted number.
        limit: usize,
    },
    /// A token without text would match everywhere.
    #[error("token {id} is empty; every token needs text")]
    Empty {
        /// The token's id.
        id: u32,
    },
    /// Two ids with the same text.
    #[error("token {id} `{}` is already token {first}; every token must be different", shown(.token))]
    Duplicate {
        /// The second id.
        id: u32,
        /// The text.
        token: String,
        /// The first id.
        first: u32,
    },
    /// An ordinary token must be a string over the byte-level alphabet.
    #[error(
        "token {id} `{}` has type Normal but `{}` is not of the byte-level alphabet; \
         an added token's type is Control (3) or UserDefined (4)",
        shown(.token),
        found.escape_debug()
    )]
    NotByteLevel {
        /// The token's id.
        id: u32,
        /// The text.
        token: String,
        /// The first character that stands for no byte.
        found: char,
    },
    /// Without all 256 characters some text has no encoding.
    #[error("the vocabulary has no Normal token `{expected}`, which stands for byte {byte:#04x}; all 256 are needed")]
    MissingByte {
        /// The byte without a token.
        byte: u8,
        /// The character that stands for it.
        expected: char,
    },
    /// A merge is two tokens with one space between them.
    #[error("merge {index} `{}` is not two tokens with one space between them", shown(.merge))]
    MergeForm {
        /// Position in the list of merges.
        index: usize,
        /// The merge as given.
        merge: String,
    },
    /// The parts and the result of a merge must be ordinary tokens.
    #[error(
        "merge {index} `{}` needs `{}`, which is not a Normal token of the vocabulary",
        shown(.merge),
        shown(.expected)
    )]
    MergeToken {
        /// Position in the list of merges.
        index: usize,
        /// The merge as given.
        merge: String,
        /// The token that is missing or of another type.
        expected: String,
    },
    /// Every V4 token is a byte, the result of a merge, or added.
    #[error(
        "token {id} `{}` has type Normal but no merge makes it; the list of merges is incomplete, \
         or the token is an added one and its type should be Control (3) or UserDefined (4)",
        shown(.token)
    )]
    Unreachable {
        /// The token's id.
        id: u32,
        /// The text.
        token: String,
    },
    /// `bos`, `eos` and `pad` must be ids of the vocabulary.
    #[error("{name} is token {id}, but the vocabulary has only {len} tokens")]
    IdRange {
        /// `bos`, `eos` or `pad`.
        name: &'static str,
        /// The id given.
        id: u32,
        /// Number of tokens.
        len: usize,
    },
    /// The search automaton over added tokens could not be built.
    #[error("the added tokens cannot be searched for: {0}")]
    Added(#[from] aho_corasick::BuildError),
    /// The BPE model refused a vocabulary that passed all the checks above.
    #[error("the BPE model cannot be built: {0}")]
    Bpe(String),
    /// Not JSON, or not the members a `tokenizer.json` has.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A `tokenizer.json` that asks for something other than V4's tokenizer.
    #[error("tokenizer.json: {what} is {found}, but only {expected} is implemented")]
    Unsupported {
        /// The part of the file.
        what: String,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A marked range that does not cut the text at characters, or that begins before the last one ends.
    #[error(
        "special {index} is at bytes {start}..{end}; expected whole characters between byte {from} and the text's end at {len}"
    )]
    MarkRange {
        /// Position in the list of ranges.
        index: usize,
        /// Where the range begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// The first byte it may begin at.
        from: usize,
        /// Length of the text in bytes.
        len: usize,
    },
    /// A marked range whose text is no added token of this vocabulary.
    #[error(
        "special {index} `{}` is not an added token of this vocabulary; the model was not made for this template",
        shown(.token)
    )]
    MarkToken {
        /// Position in the list of ranges.
        index: usize,
        /// The marked text.
        token: String,
    },
}

/// Text of a file as it may stand in a message: on one line, and not too long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let escaped: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() { escaped + "…" } else { escaped }
}
