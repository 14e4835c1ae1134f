//! What heads are made of: the usual words, and those that parsers trip over.

use proptest::prelude::{Strategy, prop};
use proptest::prop_oneof;

/// Words of one kind.
pub(crate) struct Words {
    /// Taken seven times in eight, or hardly a request would pass.
    pub(crate) usual: &'static [&'static [u8]],
    pub(crate) odd: &'static [&'static [u8]],
}

impl Words {
    /// One of them.
    pub(crate) fn one(&self) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
        let of =
            |words: &'static [&'static [u8]]| prop::sample::select(words).prop_map(<[u8]>::to_vec);
        prop_oneof![7 => of(self.usual), 1 => of(self.odd)]
    }

    /// Some of them, one behind the other.
    pub(crate) fn some(&self, max: usize) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
        prop::collection::vec(self.one(), 0..=max).prop_map(|parts| parts.concat())
    }
}

/// Methods. `HEAD` is left out: its answers have no end of their own.
pub(crate) const METHODS: Words = Words {
    usual: &[b"GET", b"POST", b"PUT", b"DELETE", b"PATCH"],
    odd: &[b"OPTIONS", b"CONNECT", b"TRACE", b"post", b"M-SEARCH", b"P(ST", b"P\0ST", b""],
};

/// Versions.
pub(crate) const VERSIONS: Words = Words {
    usual: &[b"HTTP/1.1"],
    odd: &[
        b"HTTP/1.0",
        b"HTTP/1.2",
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"http/1.1",
        b"HTTP/1.1 ",
        b"HTTP/01.1",
        b"",
    ],
};

/// How a target begins; a number and [`PATHS`] follow.
pub(crate) const FORMS: Words = Words {
    usual: &[b"/c", b"http://a/c"],
    odd: &[
        b"//c",
        b"/./c",
        b"/../c",
        b"\\c",
        b"c",
        b"",
        b"/%2fc",
        b"http://a?c",
        b"HTTP://A/c",
        b"http://b/c",
        b"http://u@a/c",
        b"http://a:80/c",
        b"https://a/c",
        b"ftp://a/c",
        b"*",
        b"a:80",
        b"http:///c",
        b"http://a\\c",
    ],
};

/// Parts of a path and its query.
pub(crate) const PATHS: Words = Words {
    usual: &[
        b"/", b"/a", b"/Zones", b"%41", b"%7e", b"%2F", b"%25", b"%c3%a9", b";a=b", b"?", b"&q=%2f",
    ],
    odd: &[
        b"//",
        b"/.",
        b"/..",
        b"/%2e",
        b"/%2E%2e",
        b"/.%2e",
        b"/..;x=1",
        b"%2f",
        b"%5c",
        b"\\",
        b"%00",
        b"%0d%0a",
        b"%20",
        b"%252e",
        b"%zz",
        b"%",
        b"%4",
        b"%ff",
        b"%c0%af",
        b"\xc3\xa9",
        b"\xff",
        b"\x01",
        b"\x7f",
        b"\t",
        b" ",
        b"#",
        b"#f/../g",
        b"??x",
        b"=+",
        b"@",
        b":",
        b"*",
        b"!$'()",
        b",",
        b"|",
        b"\"",
        b"<>",
        b"^`{}",
        b"[]",
        b"\0",
    ],
};

/// Fields that have nothing to do with the body's length, and some that pretend to.
pub(crate) const FIELDS: Words = Words {
    usual: &[
        b"X-A: plain\r\n",
        b"x-b:no space\r\n",
        b"X-Empty:\r\n",
        b"X-Tab:\tx\t\r\n",
        b"X-High: \xff\xc3\r\n",
        b"X-Lf: a\n",
        b"X-Lf: a\nX-Next: b\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: content-length\r\n",
        b"Connection: host\r\n",
        b"Connection: transfer-encoding, x-a\r\n",
        b"Keep-Alive: timeout=1\r\n",
        b"TE: trailers\r\n",
        b"TE: chunked\r\n",
        b"Trailer: X-Trailer\r\n",
        b"Expect: 100-continue\r\n",
        b"Proxy-Connection: close\r\n",
        b"Content-Encoding: gzip\r\n",
        b"X-HTTP-Method-Override: PUT\r\n",
        b"Transfer-Encoding2: chunked\r\n",
        b"Content_Length: 3\r\n",
        b"Transfer_Encoding: chunked\r\n",
    ],
    odd: &[
        b": no name\r\n",
        b":\r\n",
        b"no colon\r\n",
        b"X Y: z\r\n",
        b"X : y\r\n",
        b"X\t: y\r\n",
        b"X-Fold: a\r\n b\r\n",
        b"X-Fold: a\r\n\tContent-Length: 3\r\n",
        b" X-First-Fold: a\r\n",
        b"X-Cr: a\rb\r\n",
        b"X-Cr: a\r\r\n",
        b"X-Nul: a\0b\r\n",
        b"X-Ctl: a\x01b\r\n",
        b"X-Del: a\x7fb\r\n",
        b"X\0Y: z\r\n",
        b"X\xff: y\r\n",
        b"\"X\": y\r\n",
        b"Host: a\r\n",
        b"Host: b\r\n",
        b"Host : a\r\n",
        b"Connection: close\r\n",
        b"Expect: x\r\n",
        b"Upgrade: h2c\r\n",
        b"Upgrade: websocket\r\n",
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ],
};

/// Lengths: `@` stands for the right one.
pub(crate) const LENGTHS: Words = Words {
    usual: &[b"Content-Length: @\r\n", b"content-length:@\r\n", b"CONTENT-LENGTH: 00@ \r\n"],
    odd: &[
        b"Content-Length : @\r\n",
        b"Content-Length\t: @\r\n",
        b" Content-Length: @\r\n",
        b"Content-Length\x0b: @\r\n",
        b"\x0bContent-Length: @\r\n",
        b"Content-Length: +@\r\n",
        b"Content-Length: -@\r\n",
        b"Content-Length: -0\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: @0\r\n",
        b"Content-Length: 0x@\r\n",
        b"Content-Length: @, @\r\n",
        b"Content-Length: @,0\r\n",
        b"Content-Length: @;\r\n",
        b"Content-Length: @ @\r\n",
        b"Content-Length: 1e1\r\n",
        b"Content-Length: @.0\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: x\r\n",
        b"Content-Length: \xd9\xa1\r\n",
        b"Content-Length: @\x0b\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Content-Length: 18446744073709551615\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: @\r\nContent-Length: @\r\n",
        b"Content-Length: @\r\nContent-Length: 0\r\n",
        b"Content-Length: @\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: @\r\nTransfer-Encoding: identity\r\n",
        b"Content-Length: @\r\nX: y\r\n Transfer-Encoding: chunked\r\n",
        b"",
    ],
};

/// Codings.
pub(crate) const CODINGS: Words = Words {
    usual: &[
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding:chunked\r\n",
        b"Transfer-Encoding:  Chunked \r\n",
    ],
    odd: &[
        b"Transfer-Encoding : chunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding\0: chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: cow, chunked\r\n",
        b"Transfer-Encoding: ,chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked,identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked;q=1\r\n",
        b"Transfer-Encoding: \"chunked\"\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding: chunked,\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chun\tked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"",
    ],
};

/// What stands behind the size of a chunk.
pub(crate) const EXTENSIONS: Words = Words {
    usual: &[b"\r\n"],
    odd: &[b";x=1\r\n", b";a=\"b\"\r\n", b" \r\n", b";\n", b"\n", b"g\r\n"],
};

/// How a chunked body ends.
pub(crate) const ENDS: Words = Words {
    usual: &[b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"],
    odd: &[
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\n\n",
        b"-1\r\n\r\n",
        b"+0\r\n\r\n",
        b"0x0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n",
        b"",
    ],
};

/// Parts of paths that two readers may take for different ones.
pub(crate) const STEPS: &[&[u8]] = &[
    b"open",
    b"closed",
    b"Open",
    b"CLOSED",
    b"%6fpen",
    b"%63losed",
    b"clos%65d",
    b"/",
    b"/",
    b"/",
    b"//",
    b"/./",
    b"/../",
    b"..",
    b".",
    b"%2e",
    b"%2E%2e",
    b".%2e",
    b"..;",
    b"..;x=1",
    b";x=1",
    b";",
    b"%3b",
    b"%2f",
    b"%2F",
    b"%5c",
    b"%5C",
    b"\\",
    b"%252f",
    b"%252e%252e",
    b"%25",
    b"%00",
    b"%20",
    b"%09",
    b"?",
    b"%3f",
    b"#",
    b"%23",
    b"*",
    b"a",
    b"%c0%ae",
    b"%c0%af",
    b"%ef%bc%8f",
];
