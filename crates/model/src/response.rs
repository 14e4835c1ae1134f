//! What a document says of answers, by name.

use crate::text_id;

text_id!(
    /// The id of a rule about answers as its users know it.
    ResponseId
);
