//! The agents' clear-text door: an address, or none.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::Deserialize;

/// Where agents come in, in clear text, if they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Door {
    Closed,
    At(SocketAddr),
}

impl Door {
    /// Where it is; `None` where it is closed.
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Closed => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::Closed);
        }
        let address = text.parse();
        address.map(Self::At).map_err(|_| {
            format!("`{text}` is neither an address such as 127.0.0.1:9080 nor `none`")
        })
    }
}

impl TryFrom<String> for Door {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
