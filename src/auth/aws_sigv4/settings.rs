//! What `aws_sigv4` can be told.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::AwsSigv4;
use super::canonical::PathStyle;
use super::keys::Algorithm;
use super::sources;
use crate::auth::{Authorizer, BuildCx, Scheme, Shape, scheme_fields};
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "aws_sigv4",
    doc: "AWS Signature Version 4 and 4A. Credentials: `access_key` and `secret_key`, `profile`, or `command`; with none of them AWS's own order: the environment (keys, or a web identity token and role), the profile AWS_PROFILE or `default`, the container's endpoint.",
    short: None,
    settings: &[
        ("access_key", Shape::Secret, "-", "the access key id; with `secret_key`"),
        ("secret_key", Shape::Secret, "-", "a SECRET"),
        ("session_token", Shape::Secret, "-", "a SECRET, of temporary credentials"),
        (
            "profile",
            Shape::Plain,
            "-",
            "a profile of AWS's shared config and credentials files: keys, credential_process, or role_arn with source_profile, credential_source or web_identity_token_file (by AWS STS)",
        ),
        (
            "command",
            Shape::Command,
            "-",
            "a program that prints credentials as `credential_process` wants them, as in [aws, configure, export-credentials, --format, process]",
        ),
        ("ttl", Shape::Time, "-", "with `command`: how long its output is kept; left out: until the end it names, or 10m"),
        ("timeout", Shape::Time, "10s", "with `command`: how long one run may take"),
        (
            "region",
            Shape::Plain,
            "from the host",
            "as in us-east-1; for 4A a set, as in `*`. Else the host tells it, the client's own signature, or the profile",
        ),
        (
            "service",
            Shape::Plain,
            "from the host",
            "its name in signatures, as in s3 or execute-api. Else the host tells it, or the client's own signature",
        ),
        ("in", Shape::Words(&["header", "query"]), "header", "header, or query: a presigned URL"),
        ("expires", Shape::Time, "5m", "with `in: query`: how long the URL is good"),
        (
            "payload",
            Shape::Words(&["auto", "hash", "unsigned"]),
            "auto",
            "hash: the body is part of the signature, and held for that; unsigned; auto: unsigned for S3 over TLS, else hash. A hash that the client names is signed as it is; aws-chunked uploads are signed anew chunk by chunk",
        ),
        (
            "algorithm",
            Shape::Words(&["auto", "v4", "v4a"]),
            "auto",
            "v4, v4a (ECDSA, for several regions), or auto: v4a where the host or region asks for it",
        ),
        ("headers_to_sign", Shape::Many(&Shape::Field), "[]", "headers to sign besides host, content-type and x-amz-*"),
        (
            "path",
            Shape::Words(&["auto", "as_is", "normalized"]),
            "auto",
            "as_is: sign the path as it was sent, as S3 does; normalized: as all others do; auto: by service",
        ),
    ],
    build,
};

pub fn build(node: &Node, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let credentials = sources::build(&fields, decode, cx);
    let text = |decode: &mut Decode<'_>, name: &str| match fields.get(name) {
        Some(node) => decode.string(node).map(Some),
        None => Some(None),
    };
    let (region, service) = (text(decode, "region"), text(decode, "service"));
    let form = [("header", Form::Header), ("query", Form::Query)];
    let form = fields.get("in").map_or(Some(Form::Header), |node| decode.choice(node, "in", &form));
    let expires = fields.get("expires").map_or(Some(EXPIRES), |node| decode.duration(node));
    let payload = [("auto", Payload::Auto), ("hash", Payload::Hash), ("unsigned", Payload::Unsigned)];
    let payload = fields.get("payload").map_or(Some(Payload::Auto), |node| decode.choice(node, "payload", &payload));
    let algorithm = [("auto", None), ("v4", Some(Algorithm::V4)), ("v4a", Some(Algorithm::V4a))];
    let algorithm = fields.get("algorithm").map_or(Some(None), |node| decode.choice(node, "algorithm", &algorithm));
    let path = [("auto", None), ("as_is", Some(PathStyle::AsIs)), ("normalized", Some(PathStyle::Normalized))];
    let path = fields.get("path").map_or(Some(None), |node| decode.choice(node, "path", &path));
    let extra = fields.get("headers_to_sign").map_or(Some(Vec::new()), |node| names(node, decode));
    for (name, with) in [("ttl", "command"), ("timeout", "command"), ("session_token", "access_key")] {
        if let (Some(node), None) = (fields.get(name), fields.get(with)) {
            decode.report.error("no-use", node.place, format!("`{name}` goes with `{with}`")).help("take it out");
            return None;
        }
    }
    let seconds = expires?.as_secs();
    if !(1..=604_800).contains(&seconds) {
        let place = fields.get("expires").map(|node| node.place);
        decode.report.error("expires", place, "a presigned URL is good for 1s to 7d");
        return None;
    }
    let (source, fallback) = credentials?;
    let (region, service, form, payload) = (region?, service?, form?, payload?);
    let settings =
        Settings { region, service, fallback, form, seconds, payload, algorithm: algorithm?, path: path?, extra: extra? };
    Some(Arc::new(AwsSigv4::new(source, settings)))
}

fn names(node: &Node, decode: &mut Decode<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for (name, place) in decode.strings(node)? {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => names.push(name.as_str().to_owned()),
            Err(_) => {
                decode.report.error("header-name", place, format!("`{name}` is not the name of a header"));
                return None;
            }
        }
    }
    Some(names)
}

const EXPIRES: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Header,
    Query,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Payload {
    #[default]
    Auto,
    Hash,
    Unsigned,
}

#[derive(Default)]
pub struct Settings {
    pub region: Option<String>,
    pub service: Option<String>,
    /// Where neither setting, host nor client tell the region.
    pub fallback: Option<String>,
    pub form: Form,
    /// How long a presigned URL is good.
    pub seconds: u64,
    pub payload: Payload,
    /// `None`: 4A where the host or the region ask for it.
    pub algorithm: Option<Algorithm>,
    pub path: Option<PathStyle>,
    pub extra: Vec<String>,
}
