//! Laws of prices.
