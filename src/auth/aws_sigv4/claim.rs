//! A signature as it stands in a request: the client's, or ours.

use http::header;
use percent_encoding::percent_decode_str;

use super::DATE;
use crate::draft::Draft;

pub struct Claim {
    pub access_key: String,
    /// 4A has none in its scope.
    pub region: Option<String>,
    pub service: String,
    pub scope: String,
    pub signed: Vec<String>,
    pub time: String,
}

impl Claim {
    /// In the header, or in the query of a presigned URL.
    pub fn read(draft: &Draft) -> Option<Self> {
        let field = draft.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match field.filter(|text| text.starts_with("AWS4-")) {
            Some(text) => {
                let (_, parts) = text.split_once(' ')?;
                let part = |name: &str| {
                    parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
                };
                let time = draft.headers.get(DATE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
                part("Signature")?;
                Self::of(&part("Credential")?, &part("SignedHeaders")?, time)
            }
            None => {
                let query = draft.query()?;
                let part = |name: &str| {
                    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
                    percent_decode_str(value).decode_utf8().ok().map(|text| text.into_owned())
                };
                part("X-Amz-Signature")?;
                Self::of(&part("X-Amz-Credential")?, &part("X-Amz-SignedHeaders")?, part("X-Amz-Date")?)
            }
        }
    }

    fn of(credential: &str, signed: &str, time: String) -> Option<Self> {
        let (access_key, scope) = credential.split_once('/')?;
        let parts: Vec<&str> = scope.split('/').collect();
        let (region, service) = match parts[..] {
            [_, region, service, "aws4_request"] => (Some(region.to_owned()), service),
            [_, service, "aws4_request"] => (None, service),
            _ => return None,
        };
        Some(Self {
            access_key: access_key.to_owned(),
            region,
            service: service.to_owned(),
            scope: scope.to_owned(),
            signed: signed.split(';').map(str::to_owned).collect(),
            time,
        })
    }
}
