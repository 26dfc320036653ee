//! What texts about clusters must look like: brokers, name services, users, permissions.

use super::{complaint::quoted, form::Text, values};
use std::path::PathBuf;

/// How brokers are written.
pub const BROKERS: Text = Text {
    words: "brokers like \"host1:9092,host2:9092\"",
    pattern: r" *[^\s,/$:]+:[0-9]{1,5} *(?:, *[^\s,/$:]+:[0-9]{1,5} *)*",
};

/// The same, or nothing.
pub const BROKERS_OR_NONE: Text = Text {
    words: "brokers like \"host1:9092,host2:9092\", or nothing",
    pattern: r"(?: *[^\s,/$:]+:[0-9]{1,5} *(?:, *[^\s,/$:]+:[0-9]{1,5} *)*)?",
};

/// How an HDFS cluster is written.
pub const HDFS_URL: Text =
    Text { words: "an address like \"hdfs://namenode:8020\" or \"hdfs://name\"", pattern: r"hdfs://[^\s/$]+/?" };

/// The same, or nothing.
pub const HDFS_URL_OR_NONE: Text = Text {
    words: "an address like \"hdfs://namenode:8020\" or \"hdfs://name\", or nothing",
    pattern: r"(?:hdfs://[^\s/$]+/?)?",
};

/// A folder of this machine, or nothing.
pub const FOLDER_OR_NONE: Text = Text {
    words: "a path of this machine, or nothing",
    pattern: r"(?:(?:[^$~\x00-\x1f\x7f-\x9f]|\$\$)(?:[^$\x00-\x1f\x7f-\x9f]|\$\$)*)?",
};

/// How a user is written.
pub const USER: Text = Text { words: "a user's name", pattern: r"(?:[^$\s]|\$\$)+" };

/// The same, or nothing.
pub const USER_OR_NONE: Text = Text { words: "a user's name, or nothing", pattern: r"(?:[^$\s]|\$\$)*" };

/// How a Kerberos principal is written.
pub const PRINCIPAL: Text = Text {
    words: "a principal like \"howdah@EXAMPLE.ORG\" or \"howdah/host@EXAMPLE.ORG\"",
    pattern: r"[^\s@/$]+(?:/[^\s@/$]+)?@[^\s@/$]+",
};

/// How a permission is written.
pub const MODE: Text = Text { words: "a permission in octal, like \"0644\"", pattern: "0?[0-7]{3}" };

/// Brokers, without spaces between them.
///
/// # Errors
/// What is wrong and what is allowed, as for all of them.
pub fn brokers(text: &str) -> Result<String, String> {
    let all: Vec<&str> = text.split(',').map(str::trim).collect();
    for one in &all {
        let fine = one.rsplit_once(':').is_some_and(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            !host.is_empty() && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !fine {
            return Err(format!("{} is no broker, allowed: {BROKERS}", quoted(one)));
        }
    }
    Ok(all.join(","))
}

/// The same; `None` for nothing.
pub fn brokers_or_none(text: &str) -> Result<Option<String>, String> {
    or_none(text, brokers)
}

/// An HDFS cluster, without a final slash: paths are the stages' business.
pub fn hdfs_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{} is no HDFS cluster, allowed: {HDFS_URL}", quoted(text));
    let rest = text.strip_prefix("hdfs://").ok_or_else(wrong)?.trim_end_matches('/');
    let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if rest.is_empty()
        || rest.contains(['/', '@', '?', '#'])
        || rest.contains(char::is_whitespace)
        || port == Some(false)
    {
        return Err(wrong());
    }
    Ok(format!("hdfs://{rest}"))
}

/// The same; `None` for nothing.
pub fn hdfs_url_or_none(text: &str) -> Result<Option<String>, String> {
    or_none(text, hdfs_url)
}

/// A folder of this machine; `None` for nothing.
pub fn folder_or_none(text: &str) -> Result<Option<PathBuf>, String> {
    or_none(text, values::local_path)
}

/// A user's name.
pub fn user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} is no user's name", quoted(text)));
    }
    Ok(text.to_owned())
}

/// The same; `None` for nothing.
pub fn user_or_none(text: &str) -> Result<Option<String>, String> {
    or_none(text, user)
}

/// A Kerberos principal with its realm.
pub fn principal(text: &str) -> Result<String, String> {
    let fine = text.split_once('@').is_some_and(|(name, realm)| {
        let mut parts = name.split('/').chain([realm]);
        name.split('/').count() <= 2 && parts.all(|part| !part.is_empty() && !part.contains(['@', '/']))
    });
    if !fine || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} is no principal, allowed: {PRINCIPAL}", quoted(text)));
    }
    Ok(text.to_owned())
}

/// A permission.
pub fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) && !text.starts_with('+') => Ok(mode),
        _ => Err(format!("{} is no permission, allowed: {MODE}", quoted(text))),
    }
}

fn or_none<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.trim().is_empty() { Ok(None) } else { read(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        assert_eq!(brokers("a:9092"), Ok("a:9092".to_owned()));
        assert_eq!(brokers(" a.b:9092, [::1]:1 "), Ok("a.b:9092,[::1]:1".to_owned()));
        assert_eq!(brokers_or_none(" "), Ok(None));
        for bad in ["", "a", "a:", "a:0", "a:65536", ":9092", "a:9092,", "a:9092,,b:1", "kafka://a:9092", "a b:1"] {
            assert!(brokers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_hdfs_cluster_is_a_name_node_or_a_name_service() {
        assert_eq!(hdfs_url("hdfs://namenode:8020/"), Ok("hdfs://namenode:8020".to_owned()));
        assert_eq!(hdfs_url("hdfs://prod"), Ok("hdfs://prod".to_owned()));
        for bad in ["", "hdfs://", "namenode:8020", "hdfs://a/b", "http://a", "hdfs://a:x", "hdfs://a:0", "hdfs://u@a"]
        {
            assert!(hdfs_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_principal_has_a_realm() {
        for good in ["howdah@EXAMPLE.ORG", "howdah/node-1.example.org@EXAMPLE.ORG"] {
            assert_eq!(principal(good), Ok(good.to_owned()));
        }
        for bad in ["", "howdah", "@R", "howdah@", "/h@R", "a/@R", "a/b/c@R", "a@R@S", "a b@R", "a@R/S/T"] {
            assert!(principal(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_permission_is_octal() {
        assert_eq!((mode("0644"), mode("750")), (Ok(0o644), Ok(0o750)));
        for bad in ["", "644x", "0888", "1777", "07", "+644"] {
            assert!(mode(bad).is_err(), "{bad:?}");
        }
    }
}
