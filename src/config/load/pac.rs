//! `upstream_proxy: { pac: … }`, and the same in `via`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::parts::{Names, proxy_settings};
use crate::limits::Limits;
use crate::origin::{Host, parse_authority};
use crate::settings::{Decode, Fields, Node, Shape, quoted};
use crate::upstream::settings::{PacFrom, PacSource, UpstreamProxy, Via, ViaScheme};

/// The builds that have it.
const PAC: &str = "the image has it; build with `--features pac`, or name the proxy itself: `url: http://HOST:PORT`";

pub fn read(decode: &mut Decode<'_>, fields: &Fields<'_>, node: &Node, names: &Names) -> Option<UpstreamProxy> {
    if !cfg!(feature = "pac") {
        decode.report.error("not-in-this-build", node.place, "PAC scripts are not in this build").help(PAC);
        return None;
    }
    if let Some(url) = fields.get("url") {
        decode.report.error("proxy-pac", url.place, "`pac` and `url` are both given").help("keep one of them");
    }
    // Its place is what each answer of the script says; TLS is possible, so that its settings are.
    let mut like = Via::at(ViaScheme::Https, Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0);
    proxy_settings(decode, fields, &mut like, names)?;
    let proxies = proxies(decode, fields)?;
    let personal = ["username", "auth", "client_certificate"].into_iter().find_map(|key| fields.get(key).map(|node| (key, node)));
    if let Some((key, node)) = personal.filter(|_| proxies.is_empty()) {
        let message = format!("`{key}` would go to every proxy that the script names");
        decode.report.error("proxy-pac", node.place, message).help("set `proxies: [HOST:PORT]` to those that may have it");
    }
    let from = from(decode, node)?;
    Some(UpstreamProxy::Pac(Arc::new(PacSource { place: Some(node.place), from, like, proxies })))
}

fn proxies(decode: &mut Decode<'_>, fields: &Fields<'_>) -> Option<Vec<(Host, Option<u16>)>> {
    let mut proxies = Vec::new();
    let Some(node) = fields.get("proxies") else { return Some(proxies) };
    for (text, place) in decode.strings(node)? {
        match parse_authority(&text) {
            Ok(proxy) => proxies.push(proxy),
            Err(why) => {
                let message = format!("{} is not a proxy: {why}", quoted(&text, Shape::Host, "this"));
                decode.report.error("proxy-pac", place, message).help("write HOST or HOST:PORT, as the script names it");
            }
        }
    }
    Some(proxies)
}

fn from(decode: &mut Decode<'_>, node: &Node) -> Option<PacFrom> {
    let text = decode.string(node)?;
    if text.starts_with("http://") || text.starts_with("https://") {
        return Some(PacFrom::Url(text));
    }
    let path = match text.strip_prefix("file://") {
        Some(path) => path.into(),
        None => decode.path(node)?,
    };
    decode.trusted(&path, node.place)?;
    decode.note_file(path.clone());
    match crate::files::read_text(&path, Limits::default().file) {
        Ok(text) => Some(PacFrom::File { path, text: text.into() }),
        Err(error) => {
            decode
                .report
                .error("file", node.place, error.to_string())
                .help("`pac` is a file, or a URL that begins with http:// or https://");
            None
        }
    }
}
