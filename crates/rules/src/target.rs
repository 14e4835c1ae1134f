//! The request target: read once, matched in its normal form, forwarded as it was sent.
