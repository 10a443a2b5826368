//! `postgres://…` addresses, read by themselves: the client's own reader falls back to environment
//! variables and to files in the home directory, so that the same text could mean two places.

/// What an address says; what it leaves out is `None`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<String>,
    /// Keys and values behind the question mark.
    pub(super) parameters: Vec<(String, String)>,
}

impl Address {
    /// Reads `postgres://username:password@host:port/database?key=value`. The error says what is
    /// wrong and quotes nothing, for any part may be a password in the wrong place.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("it does not start with postgres:// or postgresql://")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, database) = match rest.split_once('/') {
            Some((authority, database)) => (authority, decode(database)?),
            None => (rest, None),
        };
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, server)) => (user, server),
            None => ("", authority),
        };
        let (username, password) = match user.split_once(':') {
            Some((username, password)) => (decode(username)?, decode(password)?),
            None => (decode(user)?, None),
        };
        let (host, port) = server_parts(server)?;
        Ok(Self {
            host,
            port,
            username,
            password,
            database,
            parameters: parameters(query.unwrap_or_default())?,
        })
    }
}

fn server_parts(server: &str) -> Result<(Option<String>, Option<u16>), &'static str> {
    // An IPv6 address stands in brackets, for it has colons itself.
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("something stands between the host and its port"),
        };
        (decode(host)?, port)
    } else {
        match server.split_once(':') {
            Some((host, port)) => (decode(host)?, Some(port)),
            None => (decode(server)?, None),
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(
            port.parse()
                .map_err(|_| "the port is no number up to 65535")?,
        ),
    };
    Ok((host, port))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((
                decode(key)?.unwrap_or_default(),
                decode(value)?.unwrap_or_default(),
            ))
        })
        .collect()
}

/// Percent-decodes; nothing for an empty text.
fn decode(text: &str) -> Result<Option<String>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest
            .split_at_checked(2)
            .ok_or("a percent sign without two hexadecimal digits")?;
        rest = tail;
        let byte = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("a percent sign without two hexadecimal digits")?;
        bytes.push(byte);
    }
    let text = String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8")?;
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_part_is_read_and_decoded() {
        let address = Address::parse(
            "postgresql://us%40er:p%3A%2F%25@db.example.org:5433/my%20data?sslmode=disable&a=",
        )
        .unwrap();
        assert_eq!(address.username, some("us@er"));
        assert_eq!(address.password, some("p:/%"));
        assert_eq!(address.host, some("db.example.org"));
        assert_eq!(address.port, Some(5433));
        assert_eq!(address.database, some("my data"));
        assert_eq!(
            address.parameters,
            [
                ("sslmode".to_owned(), "disable".to_owned()),
                ("a".to_owned(), String::new())
            ]
        );
    }

    #[test]
    fn what_is_left_out_is_none() {
        assert!(Address::parse("postgres://").unwrap() == Address::default());
        let address = Address::parse("postgres://[::1]/").unwrap();
        assert_eq!(address.host, some("::1"));
        assert_eq!(address.port, None);
        assert_eq!(address.database, None);
        let socket = Address::parse("postgres://%2Fvar%2Frun/x").unwrap();
        assert_eq!(socket.host, some("/var/run"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "localhost",
            "http://localhost",
            "postgres://h:port",
            "postgres://h:65536",
            "postgres://[::1",
            "postgres://[::1]5432",
            "postgres://h/%zz",
            "postgres://h/%+1",
            "postgres://h/%4",
            "postgres://h/%ff",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
