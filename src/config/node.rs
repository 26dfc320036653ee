//! What a node is told beside its pipelines: by variables of the environment, for it is the same for all of them.

use std::{net::SocketAddr, path::PathBuf};

use super::complaint::quoted;
use crate::{
    api,
    fault::{Fault, Result},
    trace,
};

/// Where the API listens when nobody says so.
pub const LISTEN: &str = "127.0.0.1:7070";

/// The share of the received batches that is traced when nobody says so.
const TRACED: f64 = 0.01;

/// What a node is told.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// How it is seen and steered; `None`: not at all.
    pub api: Option<api::Settings>,
    /// The folder of what outlives the process, beside spools and pipelines: what people want of actors.
    pub state: PathBuf,
    /// Where a sample of the batches is traced to; `None`: nowhere.
    pub traces: Option<trace::Settings>,
}

/// Reads `HOWDAH_LISTEN` (an address and port, or `off`), `HOWDAH_TOKEN_FILE`, `HOWDAH_TLS_CERT`,
/// `HOWDAH_TLS_KEY` and `HOWDAH_STATE` (else the folder `node` in `HOWDAH_DATA`); and of OpenTelemetry's own
/// `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_TRACES_SAMPLER_ARG`.
///
/// # Errors
/// `User`: one of them cannot be used.
pub fn node(env: &dyn Fn(&str) -> Option<String>) -> Result<NodeSettings> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let file = |name: &str| set(name).map(PathBuf::from);
    let data = file("HOWDAH_DATA").unwrap_or_else(|| PathBuf::from("./howdah-data"));
    let listen = set("HOWDAH_LISTEN").unwrap_or_else(|| LISTEN.to_owned());
    let tls = match (file("HOWDAH_TLS_CERT"), file("HOWDAH_TLS_KEY")) {
        (Some(chain), Some(key)) => Some((chain, key)),
        (None, None) => None,
        _ => {
            return Err(Fault::user("HOWDAH_TLS_CERT and HOWDAH_TLS_KEY: TLS needs both, the certificate and its key"));
        }
    };
    let api = if listen == "off" {
        None
    } else {
        let listen: SocketAddr = listen.parse().map_err(|_| {
            Fault::user(format!(
                "HOWDAH_LISTEN={}: allowed: an address and a port as {LISTEN}, [::1]:7070 or 0.0.0.0:7070, or \"off\"",
                quoted(&listen)
            ))
        })?;
        Some(api::Settings { listen, token_file: file("HOWDAH_TOKEN_FILE"), tls })
    };
    let state = file("HOWDAH_STATE").unwrap_or_else(|| data.join("node"));
    Ok(NodeSettings { api, state, traces: traces(&set)? })
}

/// Where traces go, by the names that every program has for it; see
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.
fn traces(set: &dyn Fn(&str) -> Option<String>) -> Result<Option<trace::Settings>> {
    let base = set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
    let Some(endpoint) = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(base) else { return Ok(None) };
    if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        let text = "OTEL_EXPORTER_OTLP_ENDPOINT: allowed: an address as http://collector:4318 (OTLP over HTTP)";
        return Err(Fault::user(text));
    }
    let ratio = match set("OTEL_TRACES_SAMPLER_ARG") {
        None => TRACED,
        Some(text) => text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
            Fault::user(format!("OTEL_TRACES_SAMPLER_ARG={}: allowed: a share from 0 to 1, as {TRACED}", quoted(&text)))
        })?,
    };
    Ok(Some(trace::Settings { endpoint, ratio }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<NodeSettings> {
        node(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn without_a_word_it_listens_on_this_machine() {
        let settings = read(&[("HOWDAH_LISTEN", "")]).unwrap();
        let api = api::Settings { listen: "127.0.0.1:7070".parse().unwrap(), token_file: None, tls: None };
        assert_eq!(settings, NodeSettings { api: Some(api), state: "./howdah-data/node".into(), traces: None });
    }

    #[test]
    fn each_variable_is_read() {
        let settings = read(&[
            ("HOWDAH_LISTEN", "[::]:80"),
            ("HOWDAH_TOKEN_FILE", "/t"),
            ("HOWDAH_TLS_CERT", "/c"),
            ("HOWDAH_TLS_KEY", "/k"),
            ("HOWDAH_DATA", "/d"),
        ]);
        let tls = Some(("/c".into(), "/k".into()));
        let api = api::Settings { listen: "[::]:80".parse().unwrap(), token_file: Some("/t".into()), tls };
        assert_eq!(settings.unwrap(), NodeSettings { api: Some(api), state: "/d/node".into(), traces: None });
        let off = read(&[("HOWDAH_LISTEN", "off"), ("HOWDAH_STATE", "/s")]).unwrap();
        assert_eq!(off, NodeSettings { api: None, state: "/s".into(), traces: None });
    }

    #[test]
    fn traces_go_where_every_program_would_send_them() {
        let traces = |variables: &[(&str, &str)]| read(variables).unwrap().traces;
        let settings = |endpoint: &str, ratio| Some(trace::Settings { endpoint: endpoint.to_owned(), ratio });
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        assert_eq!(traces(&[base]), settings("http://c:4318/v1/traces", 0.01));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://d/spans");
        assert_eq!(traces(&[base, own, ("OTEL_TRACES_SAMPLER_ARG", "1")]), settings("https://d/spans", 1.0));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (variables, said) in [
            (&[("HOWDAH_LISTEN", "7070")][..], "HOWDAH_LISTEN=\"7070\""),
            (&[("HOWDAH_LISTEN", "localhost:7070")], "allowed: an address"),
            (&[("HOWDAH_TLS_CERT", "/c")], "TLS needs both"),
            (&[("HOWDAH_TLS_KEY", "/k")], "TLS needs both"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], "http://collector:4318"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_TRACES_SAMPLER_ARG", "1.5")], "a share from 0 to 1"),
        ] {
            let fault = read(variables).unwrap_err();
            assert!(fault.message.contains(said), "{fault}");
        }
    }
}
