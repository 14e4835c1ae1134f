//! Conditions on a request, in APISIX's `vars` language.
