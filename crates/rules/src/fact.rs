//! What is known of a request while it is judged.

use std::net::SocketAddr;

use http::HeaderMap;
use model::{Identity, Protocol, RequestId, Scheme};

use crate::route::Route;
use crate::target::Target;

/// The facts of a request. The proxy fills them in as they are proven.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub request_id: RequestId,
    pub client: SocketAddr,
    /// The gate's own end of the connection.
    pub server: SocketAddr,
    pub scheme: Scheme,
    pub protocol: Protocol,
    pub method: &'a str,
    /// Lower case, without the port.
    pub host: &'a str,
    /// The host as the client sent it, with its port.
    pub host_header: &'a str,
    pub target: &'a Target,
    pub headers: &'a HeaderMap,
    /// Once the route is chosen.
    pub route: Option<&'a Route>,
    /// Once the identity is proven.
    pub identity: Option<&'a Identity>,
}
