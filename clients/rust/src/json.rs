//! As much JSON as the protocol needs: strings written, documents read. RFC 8259, strictly; no numbers are interpreted.

use std::collections::BTreeMap;

const DEEPEST: usize = 32;

/// A document. A number is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of an object, if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }
}

/// Append `text` as a JSON string.
pub fn push_string(line: &mut String, text: &str) {
    line.push('"');
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\0'..='\u{1f}' => line.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => line.push(letter),
        }
    }
    line.push('"');
}

/// Append what `push` does for each, with commas between.
pub fn push_list<T>(line: &mut String, items: impl Iterator<Item = T>, push: impl Fn(&mut String, T)) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            line.push(',');
        }
        push(line, item);
    }
}

/// The one document in `text`; None if it is not exactly that. A key twice in one object is no document either.
pub fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader { text, at: 0 };
    let document = reader.value(0)?;
    reader.space();
    (reader.at == text.len()).then_some(document)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: &str) -> Option<()> {
        self.text[self.at..].starts_with(wanted).then(|| self.at += wanted.len())
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        self.space();
        match self.peek()? {
            b'n' => self.take("null").map(|()| Json::Null),
            b't' => self.take("true").map(|()| Json::Bool(true)),
            b'f' => self.take("false").map(|()| Json::Bool(false)),
            b'"' => self.string().map(Json::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        let mut items = Vec::new();
        self.members(b']', |reader| {
            items.push(reader.value(depth + 1)?);
            Some(())
        })?;
        Some(Json::List(items))
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        let mut members = BTreeMap::new();
        self.members(b'}', |reader| {
            let name = reader.string()?;
            reader.space();
            reader.take(":")?;
            let value = reader.value(depth + 1)?;
            members.insert(name, value).is_none().then_some(())
        })?;
        Some(Json::Object(members))
    }

    /// What stands between brackets, with commas.
    fn members(&mut self, end: u8, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            self.space();
            member(self)?;
            self.space();
            let next = self.peek()?;
            self.at += 1;
            match next {
                b',' => {}
                _ => return (next == end).then_some(()),
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        (self.at > start).then(|| Json::Number(self.text[start..self.at].to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let length = rest.find(|letter| matches!(letter, '"' | '\\' | '\0'..='\u{1f}'))?;
            text.push_str(&rest[..length]);
            self.at += length + 1;
            match rest.as_bytes()[length] {
                b'"' => return Some(text),
                b'\\' => text.push(self.escape()?),
                _ => return None, // a control character as it is
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(match letter {
            b'"' | b'\\' | b'/' => letter as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.take("\\u")?;
                let second = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)?
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "plain", "ünï\n\"q\"\\\0\u{2028}😀\u{7f}"] {
            let mut line = String::new();
            push_string(&mut line, text);
            assert_eq!(parse(&line), Some(Json::Text(text.to_owned())));
        }
        assert_eq!(parse(r#""\ud83d\ude00\u0041""#), Some(Json::Text("😀A".to_owned())));
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = "[".repeat(100);
        for text in [
            "",
            "nul",
            "\"",
            "\"\\",
            "\"\\u12",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "{",
            "{\"a\":1,}",
            "[1 2]",
            "1 2",
            "{\"a\":1,\"a\":2}",
            "\"\n\"",
            "{1:2}",
            "\"\\u+123\"",
            &deep,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
