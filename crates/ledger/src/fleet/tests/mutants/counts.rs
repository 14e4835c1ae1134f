//! Scripts of buckets with one fault each.
