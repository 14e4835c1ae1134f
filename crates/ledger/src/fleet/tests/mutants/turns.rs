//! The script of quotas with one fault each.
