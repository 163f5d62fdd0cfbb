//! The hosts of a URL: a list in the authority, or in the parameters `host`, `hostaddr` and `port`. Pure.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

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
    let in_authority = list(authority, of_authority)?;
    let (listed, in_parameter) = (&parameters.hosts, |hosts: &String| list(hosts, of_parameter));
    let has_port = in_authority.iter().any(|server| server.port.is_some());
    let ports = match (&parameters.ports, &parameters.ports_of_variable) {
        (Some(ports), _) => list(ports, port)?,
        (None, _) if has_port && !listed.is_empty() => in_authority.iter().map(|server| server.port).collect(),
        (None, Some(ports)) if !has_port => list(ports, port).map_err(|_| of_variable())?,
        (None, _) => vec![None],
    };
    let servers = match listed.as_slice() {
        [] => in_authority,
        lists => lists.iter().map(in_parameter).collect::<Result<Vec<_>, _>>()?.concat(),
    };
    let mut chosen = Vec::new();
    for server in servers {
        // PGHOST, too, can have several hosts.
        let hosts = if server.host.is_empty() { list(default, of_parameter)? } else { vec![server.clone()] };
        chosen.extend(hosts.into_iter().map(|host| ServerAddress { port: server.port.or(host.port), ..host }));
    }
    if ports.len() != 1 && ports.len() != chosen.len() {
        return Err(if parameters.ports.is_none() && !has_port { of_variable() } else { PORTS.into() });
    }
    for (server, listed) in chosen.iter_mut().zip(ports.into_iter().cycle()) {
        server.port = if parameters.ports.is_some() { listed } else { server.port.or(listed) };
    }
    Ok(chosen)
}

fn list<T>(texts: &str, parse: impl Fn(&str) -> Result<T, UrlFault>) -> Result<Vec<T>, UrlFault> {
    texts.split(',').map(parse).collect()
}

/// A host with or without a port. As in libpq, the port ends before the decoding: a directory can have an encoded colon.
fn of_authority(text: &str) -> Result<ServerAddress, UrlFault> {
    let (host, port) = split_port(text)?;
    server(&percent_decode_str(host).decode_utf8().map_err(|_| HOSTS)?, port)
}

/// A directory, an IPv6 address without brackets, or a host with or without a port. A directory can have colons.
fn of_parameter(text: &str) -> Result<ServerAddress, UrlFault> {
    if text.starts_with('/') || is_ipv6(text) {
        return Ok(ServerAddress { host: text.to_owned(), port: None });
    }
    let (host, port) = split_port(text)?;
    server(host, port)
}

/// The colons within brackets belong to the address.
fn split_port(text: &str) -> Result<(&str, Option<u16>), UrlFault> {
    match text.rsplit_once(':') {
        Some((host, digits)) if !digits.ends_with(']') => Ok((host, port(digits)?)),
        _ => Ok((text, None)),
    }
}

fn server(host: &str, port: Option<u16>) -> Result<ServerAddress, UrlFault> {
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']').filter(|address| is_ipv6(address)).ok_or(HOSTS)?,
        None if host.starts_with('/') => host,
        None if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/:@[]".contains(c)) => {
            return Err(HOSTS.into());
        }
        None => host,
    };
    Ok(ServerAddress { host: host.to_owned(), port })
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

fn of_variable() -> UrlFault {
    UrlFault { given: Some("PGPORT in the environment".to_owned()), accepted: PORTS.to_owned() }
}
