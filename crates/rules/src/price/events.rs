//! The events of a stream (`text/event-stream`, WHATWG HTML §9.2), as far as prices need them.

/// Cuts a stream into the data of its events, as its pieces arrive.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    /// Whether the last piece ended in a carriage return, of which a line feed is a part.
    after_return: bool,
    /// The event at hand is too long to be kept.
    lost: bool,
}

impl Events {
    /// Takes the next piece and hands out the data of each event that ends in it.
    pub fn feed(&mut self, piece: &[u8], mut event: impl FnMut(&[u8])) {
        for byte in piece {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    self.end_line(&mut event);
                }
                _ => {
                    self.after_return = false;
                    self.keep(*byte);
                }
            }
        }
    }

    /// Hands out the data of an event that the end of the stream cut off from its empty line. The
    /// standard drops it; here it may say what was used.
    pub fn end(&mut self, mut event: impl FnMut(&[u8])) {
        self.end_line(&mut event);
        self.end_event(&mut event);
    }

    fn keep(&mut self, byte: u8) {
        if self.line.len() + self.data.len() < EVENT_BYTES_MAX {
            self.line.push(byte);
        } else {
            self.lost = true;
        }
    }

    fn end_line(&mut self, event: &mut impl FnMut(&[u8])) {
        if self.line.is_empty() {
            self.end_event(event);
            return;
        }
        if let Some(data) = self.line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        self.line.clear();
    }

    fn end_event(&mut self, event: &mut impl FnMut(&[u8])) {
        if !self.data.is_empty() && !self.lost {
            event(&self.data);
        }
        self.data.clear();
        self.lost = false;
    }
}

/// Bytes of an event that are kept. The data of a longer one is not handed out.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{EVENT_BYTES_MAX, Events};

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        let mut note = |data: &[u8]| found.push(String::from_utf8_lossy(data).into_owned());
        for piece in pieces {
            events.feed(piece, &mut note);
        }
        events.end(&mut note);
        found
    }

    #[track_caller]
    fn check(stream: &str, expected: &[&str]) {
        assert_eq!(cut(&[stream.as_bytes()]), expected, "{stream:?}");
    }

    #[test]
    fn an_event_is_its_data_whatever_ends_its_lines() {
        check("event: a\ndata: {}\n\ndata:1\r\rdata: 2\r\n\r\n", &["{}", "1", "2"]);
        check("data: a\ndata: b\n\n: comment\n\n", &["a\nb"]);
        check("id: 1\n\n", &[]);
    }

    #[test]
    fn the_end_of_the_stream_ends_the_last_event() {
        check("data: 1\n\ndata: 2", &["1", "2"]);
    }

    #[test]
    fn an_event_that_is_too_long_is_lost_and_the_next_is_not() {
        let long = "x".repeat(EVENT_BYTES_MAX);
        assert_eq!(cut(&[b"data: ", long.as_bytes(), b"\n\ndata: 1\n\n"]), ["1"]);
    }

    proptest! {
        #[test]
        fn the_cuts_of_a_stream_do_not_matter(stream in "(data: ?[a-z]{0,3}|[\r\n:]){0,12}", at in 0_usize..40) {
            let (first, last) = stream.as_bytes().split_at(at.min(stream.len()));
            prop_assert_eq!(cut(&[first, last]), cut(&[stream.as_bytes()]));
        }
    }
}
