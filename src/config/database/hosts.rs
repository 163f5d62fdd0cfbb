//! The hosts of a URL: a list in the authority, or in the parameters `host`, `hostaddr` and `port`. Pure.

use std::net::Ipv6Addr;

use url::form_urlencoded;

use super::{ENCODED, UrlFault, parameters::Parameters};

const HOSTS: &str = "hosts as NAME:PORT, ADDRESS:PORT, [IPV6]:PORT or /SOCKET/DIRECTORY, separated by commas";
const PORTS: &str = "ports from 1 to 65535, one for each host or one for all of them";

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    /// A name, an address without brackets, or the directory of a socket.
    pub(super) host: String,
    /// `None`: the default.
    pub(super) port: Option<u16>,
}

/// The servers of a URL. Hosts and ports in parameters replace those of the authority, as in libpq. `default` has the hosts
/// for a URL without one.
pub(super) fn choose(authority: &str, parameters: &Parameters, default: &str) -> Result<Vec<ServerAddress>, UrlFault> {
    let in_authority = authority.split(',').map(|host| parse(&decode(host), false)).collect::<Result<Vec<_>, _>>()?;
    let in_parameter = |hosts: &str| hosts.split(',').map(|host| parse(host, true)).collect::<Result<Vec<_>, _>>();
    let ports = match &parameters.ports {
        Some(ports) => ports.split(',').map(port).collect::<Result<Vec<_>, _>>()?,
        None => in_authority.iter().map(|server| server.port).collect(),
    };
    let servers = match parameters.hosts.as_slice() {
        [] => in_authority,
        lists => lists.iter().map(|hosts| in_parameter(hosts)).collect::<Result<Vec<_>, _>>()?.concat(),
    };
    if ports.len() != 1 && ports.len() != servers.len() {
        return Err(PORTS.into());
    }
    let mut chosen = Vec::new();
    for (server, listed) in servers.into_iter().zip(ports.into_iter().cycle()) {
        let port = if parameters.ports.is_some() { listed } else { server.port.or(listed) };
        // PGHOST, too, can have several hosts.
        let hosts = if server.host.is_empty() { in_parameter(default)? } else { vec![server] };
        chosen.extend(hosts.into_iter().map(|host| ServerAddress { port, ..host }));
    }
    Ok(chosen)
}

/// A host has no `+`, `=` or `&`, so the encoding of parameters is right for it.
fn decode(host: &str) -> String {
    form_urlencoded::parse(host.as_bytes()).next().map(|(host, _)| host.into_owned()).unwrap_or_default()
}

/// A host with or without a port. In a parameter, an IPv6 address needs no brackets.
fn parse(text: &str, in_parameter: bool) -> Result<ServerAddress, UrlFault> {
    let server = |host: &str, port| ServerAddress { host: host.to_owned(), port };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, after) = bracketed.split_once(']').ok_or(HOSTS)?;
        if !is_ipv6(address) {
            return Err(HOSTS.into());
        }
        return match after.strip_prefix(':') {
            None if after.is_empty() => Ok(server(address, None)),
            None => Err(HOSTS.into()),
            Some(digits) => Ok(server(address, port(digits)?)),
        };
    }
    if in_parameter && is_ipv6(text) {
        return Ok(server(text, None));
    }
    let (host, digits) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port(digits)?;
    if host.starts_with('/') {
        return Ok(server(host, port));
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/:@[]".contains(c)) {
        return Err(HOSTS.into());
    }
    Ok(server(host, port))
}

/// An address may have a zone: `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    text.split('%').next().unwrap_or_default().parse::<Ipv6Addr>().is_ok()
}

/// `None`: the text is empty, so the port is the default.
fn port(text: &str) -> Result<Option<u16>, UrlFault> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(port @ 1..) => Ok(Some(port)),
        // A part of a password that is not encoded can be here.
        Ok(0) | Err(_) => Err(UrlFault { given: None, accepted: format!("{PORTS}; and {ENCODED}") }),
    }
}
