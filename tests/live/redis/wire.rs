//! The server's protocol by hand, to look behind the adapter's back.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Nothing,
    Number(i64),
    Text(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn texts(self) -> Vec<String> {
        match self {
            Reply::List(items) => items.into_iter().flat_map(Reply::texts).collect(),
            Reply::Text(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
            other => panic!("{other:?} is no list of texts"),
        }
    }

    pub(super) fn number(self) -> i64 {
        match self {
            Reply::Number(number) => number,
            other => panic!("{other:?} is no number"),
        }
    }

    pub(super) fn done(self) -> Self {
        assert!(!matches!(self, Reply::Error(_)), "{self:?}");
        self
    }
}

/// A connection of the test's own.
pub(super) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects to `redis://[user]:password@host:port/…`.
    pub(super) fn open(url: &str) -> std::io::Result<Self> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let stream = TcpStream::connect(place.split('/').next().unwrap_or(place))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut wire = Self {
            stream: BufReader::new(stream),
        };
        if let Some((user, password)) = login.split_once(':') {
            let user = if user.is_empty() { "default" } else { user };
            wire.call(&["AUTH", user, password])?.done();
        }
        Ok(wire)
    }

    pub(super) fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> std::io::Result<Reply> {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let bytes = argument.as_ref();
            request.extend(format!("${}\r\n", bytes.len()).into_bytes());
            request.extend(bytes);
            request.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.read()
    }

    fn read(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let count = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            "+" => Reply::Text(rest.as_bytes().to_vec()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(count()?),
            "$" => match usize::try_from(count()?) {
                Err(_) => Reply::Nothing,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Text(bytes)
                }
            },
            "*" => match usize::try_from(count()?) {
                Err(_) => Reply::Nothing,
                Ok(length) => {
                    Reply::List((0..length).map(|_| self.read()).collect::<Result<_, _>>()?)
                }
            },
            other => return Err(std::io::Error::other(format!("unknown reply {other:?}"))),
        })
    }

    /// Every key of the namespace.
    pub(super) fn keys(&mut self, namespace: &str) -> std::io::Result<Vec<Vec<u8>>> {
        let pattern = format!("{{{namespace}}}:*");
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        loop {
            let page = self.call(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"])?;
            let Reply::List(mut page) = page.done() else {
                return Ok(keys);
            };
            let found = page.pop().unwrap_or(Reply::Nothing);
            if let Reply::List(found) = found {
                keys.extend(found.into_iter().filter_map(|key| match key {
                    Reply::Text(bytes) => Some(bytes),
                    _ => None,
                }));
            }
            cursor = page.remove(0).texts().remove(0);
            if cursor == "0" {
                return Ok(keys);
            }
        }
    }

    /// Removes everything of the namespace, indexes first.
    pub(super) fn sweep(&mut self, namespace: &str) -> std::io::Result<()> {
        let own = format!("{{{namespace}}}:");
        if let list @ Reply::List(_) = self.call(&["FT._LIST"])? {
            for index in list.texts().into_iter().filter(|i| i.starts_with(&own)) {
                self.call(&["FT.DROPINDEX", &index])?;
            }
        }
        for keys in self.keys(namespace)?.chunks(500) {
            let mut unlink = vec![b"UNLINK".to_vec()];
            unlink.extend_from_slice(keys);
            self.call(&unlink)?;
        }
        Ok(())
    }
}

/// Removes a namespace when it is dropped.
pub(super) struct Sweeper {
    url: String,
    namespace: String,
}

impl Sweeper {
    pub(super) fn new(url: &str, namespace: &str) -> Self {
        Self {
            url: url.to_owned(),
            namespace: namespace.to_owned(),
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // The server may have gone with the test.
        let _ = Wire::open(&self.url).and_then(|mut wire| wire.sweep(&self.namespace));
    }
}
