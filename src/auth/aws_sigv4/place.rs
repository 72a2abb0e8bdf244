//! Region and service, as far as a host name tells them.

use crate::origin::Host;

/// What a host name says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub region: Option<String>,
    pub service: Option<String>,
    /// Only Signature Version 4A is taken there.
    pub global: bool,
}

/// The domains of AWS's partitions and what calls without a region are signed for.
const DOMAINS: [(&str, &str); 10] = [
    ("amazonaws.com", "us-east-1"),
    ("amazonaws.com.cn", "cn-north-1"),
    ("api.aws", "us-east-1"),
    ("on.aws", "us-east-1"),
    ("api.amazonwebservices.com.cn", "cn-north-1"),
    ("on.amazonwebservices.com.cn", "cn-north-1"),
    ("amazonaws.eu", "eusc-de-east-1"),
    ("c2s.ic.gov", "us-iso-east-1"),
    ("sc2s.sgov.gov", "us-isob-east-1"),
    ("cloud.adc-e.uk", "eu-isoe-west-1"),
];

/// Services whose name in signatures is not the last label of their host.
const NAMES: [(&str, &str); 48] = [
    ("aos", "es"),
    ("api.tunneling.iot", "IoTSecuredTunneling"),
    ("appconfigdata", "appconfig"),
    ("appstream2", "appstream"),
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-agentcore-control", "bedrock-agentcore"),
    ("bedrock-data-automation", "bedrock"),
    ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("agreement-marketplace", "aws-marketplace"),
    ("catalog.marketplace", "aws-marketplace"),
    ("deployment-marketplace", "aws-marketplace"),
    ("discovery-marketplace", "aws-marketplace"),
    ("entitlement.marketplace", "aws-marketplace"),
    ("metering.marketplace", "aws-marketplace"),
    ("reporting-marketplace", "aws-marketplace"),
    ("cloudhsmv2", "cloudhsm"),
    ("cloudsearchdomain", "cloudsearch"),
    ("contact-lens", "connect"),
    ("data-signer", "signer"),
    ("data.jobs.iot", "iot-jobs-data"),
    ("ddb", "dynamodb"),
    ("email", "ses"),
    ("mail-manager", "ses"),
    ("forecastquery", "forecast"),
    ("identity-chime", "chime"),
    ("media-pipelines-chime", "chime"),
    ("meetings-chime", "chime"),
    ("messaging-chime", "chime"),
    ("voice-chime", "chime"),
    ("ivsrealtime", "ivs"),
    ("lambda-url", "lambda"),
    ("memory-db", "memorydb"),
    ("migrationhub-config", "mgh"),
    ("models-v2-lex", "lex"),
    ("runtime-v2-lex", "lex"),
    ("oidc", "sso-oauth"),
    ("participant.connect", "execute-api"),
    ("personalize-events", "personalize"),
    ("personalize-runtime", "personalize"),
    ("pinpoint", "mobiletargeting"),
    ("portal.sso", "awsssoportal"),
    ("s3-accelerate", "s3"),
    ("s3-accesspoint", "s3"),
    ("s3-control", "s3"),
    ("servicecatalog-appregistry", "servicecatalog"),
    ("sms-voice.pinpoint", "sms-voice"),
];

pub fn read(host: &Host) -> Place {
    let Some(name) = host.name() else { return Place::default() };
    let domain = DOMAINS
        .iter()
        .filter_map(|(domain, home)| Some((name.strip_suffix(domain)?.strip_suffix('.')?, *home)))
        .min_by_key(|(rest, _)| rest.len());
    let Some((rest, home)) = domain else { return Place::default() };
    let labels: Vec<&str> = rest.split('.').filter(|label| !matches!(*label, "dualstack" | "vpce" | "fips")).collect();
    if let [.., "accesspoint", "s3-global"] = labels[..] {
        return Place { region: Some("*".into()), service: Some("s3".into()), global: true };
    }
    if let [.., "endpoint", "events"] = labels[..] {
        return Place { region: Some("*".into()), service: Some("events".into()), global: true };
    }
    match labels.iter().rposition(|label| is_region(label)) {
        // `search-x.us-east-1.es`, `x.us-east-1.aoss`: the service comes last.
        Some(at) if at + 1 < labels.len() => told(labels[at], &labels[at + 1..]),
        Some(at) if at > 0 => told(labels[at], &labels[..at]),
        Some(at) => Place { region: Some(labels[at].to_owned()), ..Place::default() },
        None => without_region(&labels, home),
    }
}

fn told(region: &str, labels: &[&str]) -> Place {
    Place { region: Some(region.to_owned()), service: service(labels), global: false }
}

/// `iam`, `bucket.s3`, `s3-us-west-2` (as hosts were written once), `iam.us-gov`.
fn without_region(labels: &[&str], home: &str) -> Place {
    let last = labels.last().copied().unwrap_or("");
    if let Some(region) = last.strip_prefix("s3-").filter(|region| is_region(region)) {
        return Place { region: Some(region.to_owned()), service: Some("s3".into()), global: false };
    }
    let (labels, home) = match (last, labels.len()) {
        ("us-gov", 2..) => (&labels[..labels.len() - 1], "us-gov-west-1"),
        _ => (labels, home),
    };
    let region = match labels.last().copied().unwrap_or("") {
        // The bucket's region, which its name does not tell.
        "s3-accelerate" => None,
        "globalaccelerator" => Some("us-west-2"),
        _ => Some(home),
    };
    Place { region: region.map(str::to_owned), service: service(labels), global: false }
}

/// The name in signatures of what the labels before (or after) the region name.
fn service(labels: &[&str]) -> Option<String> {
    let last = labels.last()?;
    let alias = |name: &str| NAMES.iter().find(|(host, _)| *host == name).map(|(_, signed)| (*signed).to_owned());
    for parts in [3, 2] {
        let tail = labels.len().checked_sub(parts).map(|at| labels[at..].join("."));
        if let Some(name) = tail.and_then(|tail| alias(&tail)) {
            return Some(name);
        }
    }
    // A device endpoint of one account.
    if let [.., account, "iot"] = labels
        && account.ends_with("-ats")
    {
        return Some("iotdata".to_owned());
    }
    let plain = last.strip_prefix("fips-").or(last.strip_suffix("-fips")).unwrap_or(last);
    if plain.starts_with("s3express-") {
        return Some("s3express".to_owned());
    }
    Some(alias(plain).unwrap_or_else(|| plain.to_owned())).filter(|name| !name.is_empty())
}

/// `us-east-1`, `us-gov-west-1`, `us-iso-east-1`, `mx-central-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let word = |part: &&str| part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts[..] {
        [.., number] if (3..=4).contains(&parts.len()) => {
            let number = !number.is_empty() && number.len() <= 2 && number.bytes().all(|byte| byte.is_ascii_digit());
            let first = parts[0].len() == 2 || parts[0] == "eusc";
            number && first && parts[..parts.len() - 1].iter().all(word)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(host: &str) -> String {
        let Place { region, service, global } = read(&Host::parse(host).unwrap());
        let dash = |text: Option<String>| text.unwrap_or("-".into());
        format!("{} {}{}", dash(region), dash(service), if global { " 4A" } else { "" })
    }

    #[test]
    fn region_and_service_are_read_from_every_kind_of_host() {
        let rows = [
            ("s3.amazonaws.com", "us-east-1 s3"),
            ("bucket.s3.amazonaws.com", "us-east-1 s3"),
            ("my.dotted.bucket.s3.eu-west-1.amazonaws.com", "eu-west-1 s3"),
            ("s3.eu-west-1.amazonaws.com", "eu-west-1 s3"),
            ("s3-us-west-2.amazonaws.com", "us-west-2 s3"),
            ("bucket.s3-us-west-2.amazonaws.com", "us-west-2 s3"),
            ("bucket.s3.dualstack.us-west-2.amazonaws.com", "us-west-2 s3"),
            ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1 s3"),
            ("bucket.s3-fips.dualstack.us-east-1.amazonaws.com", "us-east-1 s3"),
            ("bucket.s3-accelerate.amazonaws.com", "- s3"),
            ("bucket.s3-accelerate.dualstack.amazonaws.com", "- s3"),
            ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1 s3"),
            ("name-123456789012.s3-accesspoint.us-east-1.amazonaws.com", "us-east-1 s3"),
            ("123456789012.s3-control.us-east-1.amazonaws.com", "us-east-1 s3"),
            ("name.s3-object-lambda.us-east-1.amazonaws.com", "us-east-1 s3-object-lambda"),
            ("mfzwi23gnjvgw.accesspoint.s3-global.amazonaws.com", "* s3 4A"),
            ("abc.endpoint.events.amazonaws.com", "* events 4A"),
            ("bucket.vpce-1a2b-x.s3.us-east-1.vpce.amazonaws.com", "us-east-1 s3"),
            ("bucket--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com", "us-west-2 s3express"),
            ("a1b2c3.execute-api.eu-central-1.amazonaws.com", "eu-central-1 execute-api"),
            ("abc-vpce-1.execute-api.us-east-1.vpce.amazonaws.com", "us-east-1 execute-api"),
            ("urlid.lambda-url.us-east-1.on.aws", "us-east-1 lambda"),
            ("lambda.us-east-2.api.aws", "us-east-2 lambda"),
            ("search-logs-x1y2.eu-west-1.es.amazonaws.com", "eu-west-1 es"),
            ("search-logs-x1y2.aos.eu-west-1.on.aws", "eu-west-1 es"),
            ("abc123.us-east-1.aoss.amazonaws.com", "us-east-1 aoss"),
            ("dynamodb.us-east-1.amazonaws.com", "us-east-1 dynamodb"),
            ("123456789012.ddb.us-east-1.amazonaws.com", "us-east-1 dynamodb"),
            ("streams.dynamodb.us-east-1.amazonaws.com", "us-east-1 dynamodb"),
            ("dynamodb-fips.us-west-2.amazonaws.com", "us-west-2 dynamodb"),
            ("fips.sagemaker.us-west-2.amazonaws.com", "us-west-2 sagemaker"),
            ("runtime.sagemaker.us-west-2.amazonaws.com", "us-west-2 sagemaker"),
            ("sts.amazonaws.com", "us-east-1 sts"),
            ("sts.us-west-2.amazonaws.com", "us-west-2 sts"),
            ("iam.amazonaws.com", "us-east-1 iam"),
            ("iam.us-gov.amazonaws.com", "us-gov-west-1 iam"),
            ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1 iam"),
            ("globalaccelerator.amazonaws.com", "us-west-2 globalaccelerator"),
            ("email.us-east-1.amazonaws.com", "us-east-1 ses"),
            ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1 bedrock"),
            ("entitlement.marketplace.us-east-1.amazonaws.com", "us-east-1 aws-marketplace"),
            ("abc-ats.iot.us-east-1.amazonaws.com", "us-east-1 iotdata"),
            ("data.jobs.iot.us-east-1.amazonaws.com", "us-east-1 iot-jobs-data"),
            ("api.ecr.us-east-1.amazonaws.com", "us-east-1 ecr"),
            ("s3.us-iso-east-1.c2s.ic.gov", "us-iso-east-1 s3"),
            ("s3.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1 s3"),
        ];
        for (host, expected) in rows {
            assert_eq!(said(host), expected, "{host}");
        }
    }

    #[test]
    fn other_hosts_say_nothing() {
        for host in ["api.example.com", "amazonaws.com", "notamazonaws.com", "s3.amazonaws.com.evil.example", "127.0.0.1"] {
            assert_eq!(said(host), "- -", "{host}");
        }
    }
}
