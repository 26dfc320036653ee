//! Addresses as they may be shown.

/// An address without what may be a password: user, query and fragment.
pub fn without_secrets(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, path)| (a, format!("/{path}")));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("https://stream.example.org/v2/stream", "https://stream.example.org/v2/stream"),
            ("http://anna:s3cret@host:8080/a/b?token=s3cret#s3cret", "http://host:8080/a/b"),
            ("http://a@b@host", "http://host"),
            ("http://host?key=s3cret", "http://host"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
