//! One plan for everything a request draws on, made before anything is taken.
