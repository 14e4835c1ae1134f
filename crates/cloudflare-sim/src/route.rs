//! Which handler a call goes to, decided on the raw path: an escaped slash is no slash.
use http::Method;

use crate::call::Call;
use crate::envelope::Reply;
use crate::path::segments;
use crate::world::World;

pub(crate) type Handler = fn(&mut World, &Call<'_>) -> Reply;

/// The methods the API's routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// `HEAD` asks what `GET` would; other methods have no route.
    fn of(method: &Method) -> Option<Self> {
        match method.as_str() {
            "GET" | "HEAD" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Who may take a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A token or the global key.
    Credential,
    /// Anybody.
    Open,
    /// The handler reads the `Authorization` itself: an assets JWT.
    Own,
}

/// One line of a room's table. Patterns are written behind `/client/v4`: `{name}` binds a segment,
/// `{name...}` at the end binds all that is left. The first line that fits wins, so literals stand
/// above parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) pattern: &'static str,
    pub(crate) handler: Handler,
    pub(crate) guard: Guard,
    /// It changes nothing, whatever its method says.
    pub(crate) reads: bool,
}

impl Route {
    pub(crate) const fn get(pattern: &'static str, handler: Handler) -> Self {
        Self { reads: true, ..Self::new(Verb::Get, pattern, handler) }
    }

    pub(crate) const fn post(pattern: &'static str, handler: Handler) -> Self {
        Self::new(Verb::Post, pattern, handler)
    }

    pub(crate) const fn put(pattern: &'static str, handler: Handler) -> Self {
        Self::new(Verb::Put, pattern, handler)
    }

    pub(crate) const fn patch(pattern: &'static str, handler: Handler) -> Self {
        Self::new(Verb::Patch, pattern, handler)
    }

    pub(crate) const fn delete(pattern: &'static str, handler: Handler) -> Self {
        Self::new(Verb::Delete, pattern, handler)
    }

    pub(crate) const fn reading(mut self) -> Self {
        self.reads = true;
        self
    }

    pub(crate) const fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    const fn new(verb: Verb, pattern: &'static str, handler: Handler) -> Self {
        Self { verb, pattern, handler, guard: Guard::Credential, reads: false }
    }
}

/// What the table says about a method and a path.
pub(crate) enum Found<'t> {
    Route {
        route: &'t Route,
        params: Vec<(&'static str, String)>,
    },
    /// The path is known, but not with this method.
    OtherMethod,
    Nothing,
}

/// Every room's table, taken apart once.
#[derive(Debug)]
pub(crate) struct Table {
    lines: Vec<(Vec<Piece>, Route)>,
}

impl Table {
    pub(crate) fn new(rooms: &[&'static [Route]]) -> Self {
        let routes = rooms.iter().flat_map(|room| room.iter());
        Self { lines: routes.map(|route| (pieces(route.pattern), *route)).collect() }
    }

    /// Finds the route of `method` and `path`, a raw path behind `/client/v4`.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let given = segments(path);
        let verb = Verb::of(method);
        let mut known = false;
        for (pieces, route) in &self.lines {
            if !fits(pieces, &given) {
                continue;
            }
            if Some(route.verb) == verb {
                return Found::Route { route, params: bind(pieces, &given) };
            }
            known = true;
        }
        if known { Found::OtherMethod } else { Found::Nothing }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal(&'static str),
    One(&'static str),
    Tail(&'static str),
}

fn pieces(pattern: &'static str) -> Vec<Piece> {
    segments(pattern).into_iter().map(piece).collect()
}

fn piece(text: &'static str) -> Piece {
    let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Piece::Literal(text);
    };
    name.strip_suffix("...").map_or(Piece::One(name), Piece::Tail)
}

fn fits(pieces: &[Piece], given: &[&str]) -> bool {
    let tailed = matches!(pieces.last(), Some(Piece::Tail(_)));
    let long_enough =
        if tailed { given.len() >= pieces.len() } else { given.len() == pieces.len() };
    long_enough
        && pieces.iter().zip(given).all(|(piece, given)| match piece {
            Piece::Literal(literal) => literal == given,
            Piece::One(_) | Piece::Tail(_) => !given.is_empty(),
        })
}

fn bind(pieces: &[Piece], given: &[&str]) -> Vec<(&'static str, String)> {
    let bound = |(index, piece): (usize, &Piece)| match piece {
        Piece::Literal(_) => None,
        Piece::One(name) => Some((*name, (*given.get(index)?).to_owned())),
        Piece::Tail(name) => Some((*name, given.get(index..)?.join("/"))),
    };
    pieces.iter().enumerate().filter_map(bound).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Found, Piece, Table, Verb, pieces};
    use crate::api::ROOMS;

    fn method(verb: Verb) -> Method {
        match verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        }
    }

    fn check(method: &Method, path: &str, expected: &str) {
        let table = Table::new(ROOMS);
        let found = match table.find(method, path) {
            Found::Route { route, params } => {
                let params = params.iter().map(|(name, value)| format!(" {name}={value}"));
                format!("{}{}", route.pattern, params.collect::<String>())
            }
            Found::OtherMethod => "other method".to_owned(),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_escaped_slash_stays_in_its_segment() {
        check(
            &Method::GET,
            "/accounts/a/storage/kv/namespaces/n/values/dir%2Fkey",
            "/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key} \
             account_id=a namespace_id=n key=dir%2Fkey",
        );
    }

    #[test]
    fn a_tail_takes_every_slash_that_is_left() {
        check(
            &Method::PUT,
            "/accounts/a/r2/buckets/b/objects/dir//key.txt",
            "/accounts/{account_id}/r2/buckets/{bucket}/objects/{key...} \
             account_id=a bucket=b key=dir//key.txt",
        );
    }

    #[test]
    fn a_known_path_with_another_method_is_told_from_an_unknown_path() {
        check(&Method::PUT, "/zones", "other method");
        check(&Method::GET, "/zonesx", "nothing");
        check(&Method::GET, "/zones/", "nothing");
    }

    #[test]
    fn no_line_of_the_table_hides_a_later_one() {
        let table = Table::new(ROOMS);
        for (index, (_, route)) in table.lines.iter().enumerate() {
            let path = pieces(route.pattern)
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => format!("/{text}"),
                    Piece::One(_) | Piece::Tail(_) => "/~any~".to_owned(),
                })
                .collect::<String>();
            let Found::Route { route: found, .. } = table.find(&method(route.verb), &path) else {
                panic!("line {index} is unreachable: {}", route.pattern);
            };
            assert_eq!(found.pattern, route.pattern);
        }
    }
}
