//! Runs a PAC script in QuickJS: bounded in time, memory and stack, each run in an engine of its own. The script can look
//! up names and the time; there is nothing else for it to reach.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::rc::Rc;
use std::time::Instant;

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Runtime, Value};

use super::{Bounds, Names, Script};
use crate::upstream::route::parse_cidr;

const HELPERS: &str = include_str!("helpers.js");
/// What the engine calls the script in its traces.
const FILE: &str = "script.pac";
const STACK: usize = 256 * 1024;

/// Is it a PAC script?
///
/// # Errors
/// Why not, with the line where there is one.
pub fn check(script: &Script, bounds: Bounds) -> Result<(), String> {
    within(script, Rc::new(|_| Vec::new()), bounds, |ctx| find(ctx).map(|_| ()))
}

/// What it says for a URL and its host; `None`: nothing, which means no proxy.
///
/// # Errors
/// It fails, runs too long or takes too much memory; with the line where there is one.
pub fn run(script: &Script, url: &str, host: &str, names: Names, bounds: Bounds) -> Result<Option<String>, String> {
    within(script, names, bounds, |ctx| {
        let said: Value<'_> = find(ctx)?.call((url, host)).catch(ctx).map_err(|error| words(&error, bounds))?;
        match said.as_string() {
            Some(text) => text.to_string().map(Some).map_err(|_| "its answer is not text".to_owned()),
            None if said.is_null() || said.is_undefined() => Ok(None),
            None => Err(format!("its answer is not a text but a {}", said.type_name())),
        }
    })
}

fn within<T>(
    script: &Script,
    names: Names,
    bounds: Bounds,
    then: impl FnOnce(&Ctx<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let fault = |error: rquickjs::Error| format!("the script engine cannot be started: {error}");
    let runtime = Runtime::new().map_err(fault)?;
    runtime.set_memory_limit(bounds.memory);
    runtime.set_max_stack_size(STACK);
    let end = Instant::now() + bounds.time;
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() > end)));
    let context = Context::full(&runtime).map_err(fault)?;
    context.with(|ctx| {
        natives(&ctx, &names).map_err(fault)?;
        evaluate(&ctx, "helpers.js", HELPERS).map_err(fault)?;
        evaluate(&ctx, FILE, &script.text).catch(&ctx).map_err(|error| words(&error, bounds))?;
        then(&ctx)
    })
}

fn evaluate(ctx: &Ctx<'_>, file: &str, text: &str) -> rquickjs::Result<()> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(file.to_owned());
    ctx.eval_with_options::<Value<'_>, _>(text, options).map(|_| ())
}

fn find<'js>(ctx: &Ctx<'js>) -> Result<Function<'js>, String> {
    ["FindProxyForURL", "FindProxyForURLEx"]
        .into_iter()
        .find_map(|name| ctx.globals().get::<_, Function<'js>>(name).ok())
        .ok_or_else(|| "it has no function FindProxyForURL".to_owned())
}

fn words(error: &CaughtError<'_>, bounds: Bounds) -> String {
    let memory = || format!("it took more than {} KiB of memory (limits.pac_memory)", bounds.memory >> 10);
    match error {
        CaughtError::Exception(exception) => {
            let message = match exception.message().unwrap_or_default() {
                text if text == "interrupted" => format!("it ran longer than {:?} (limits.pac_time)", bounds.time),
                text if text == "out of memory" => memory(),
                text => text,
            };
            match exception.stack().as_deref().and_then(line) {
                Some(line) => format!("line {line}: {message}"),
                None => message,
            }
        }
        // What is thrown when there is no memory left for an exception.
        CaughtError::Value(value) if value.is_null() => memory(),
        CaughtError::Value(value) => {
            format!("it threw {}", value.as_string().and_then(|text| text.to_string().ok()).unwrap_or_default())
        }
        CaughtError::Error(error) => error.to_string(),
    }
}

/// The innermost line of the script in a trace: `at F (script.pac:2:9)`.
fn line(stack: &str) -> Option<&str> {
    let rest = &stack[stack.find(FILE)? + FILE.len()..];
    rest.strip_prefix(':')?.split(|c: char| !c.is_ascii_digit()).next()
}

/// The functions that need names or addresses. What is no text is no host: they say no to it.
fn natives<'js>(ctx: &Ctx<'js>, names: &Names) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    let text = |value: &Value<'js>| value.as_string().and_then(|text| text.to_string().ok());
    let all = {
        let names = names.clone();
        move |host: &Value<'js>| text(host).map_or_else(Vec::new, |host| addresses(&host, &names))
    };
    let v4 = {
        let all = all.clone();
        move |host: &Value<'js>| all(host).into_iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None })
    };
    let one = v4.clone();
    let resolve = move |host: Value<'js>| one(&host).map(|ip| ip.to_string());
    globals.set("dnsResolve", Function::new(ctx.clone(), resolve)?)?;
    let every = all.clone();
    globals.set("dnsResolveEx", Function::new(ctx.clone(), move |host: Value<'js>| join(every(&host)))?)?;
    let in_net = move |host: Value<'js>, net: Value<'js>, mask: Value<'js>| {
        let part = |value: &Value<'js>| text(value)?.parse::<Ipv4Addr>().ok().map(Ipv4Addr::to_bits);
        let (Some(net), Some(mask)) = (part(&net), part(&mask)) else { return false };
        v4(&host).is_some_and(|ip| ip.to_bits() & mask == net & mask)
    };
    globals.set("isInNet", Function::new(ctx.clone(), in_net)?)?;
    let in_net_ex = move |host: Value<'js>, net: Value<'js>| {
        let cidr = text(&net).and_then(|net| parse_cidr(&net));
        cidr.is_some_and(|cidr| all(&host).into_iter().any(|ip| cidr.contains(ip)))
    };
    globals.set("isInNetEx", Function::new(ctx.clone(), in_net_ex)?)?;
    let sorted = move |list: Value<'js>| {
        let mut list: Vec<IpAddr> = text(&list).unwrap_or_default().split(';').filter_map(|ip| ip.trim().parse().ok()).collect();
        list.sort_by_key(|ip| (ip.is_ipv4(), *ip));
        join(list)
    };
    globals.set("sortIpAddressList", Function::new(ctx.clone(), sorted)?)?;
    let own = || own_address("192.0.2.1:9").unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    globals.set("myIpAddress", Function::new(ctx.clone(), own)?)?;
    let own_all = || join(["[2001:db8::1]:9", "192.0.2.1:9"].into_iter().filter_map(own_address).collect());
    globals.set("myIpAddressEx", Function::new(ctx.clone(), own_all)?)?;
    let matches = move |whole: Value<'js>, pattern: Value<'js>| match (text(&whole), text(&pattern)) {
        (Some(whole), Some(pattern)) => glob(whole.as_bytes(), pattern.as_bytes()),
        _ => false,
    };
    globals.set("shExpMatch", Function::new(ctx.clone(), matches)?)?;
    let alert = move |said: Value<'js>| {
        let said: String = text(&said).unwrap_or_default().chars().take(200).collect();
        tracing::debug!(said, "a PAC script says");
    };
    globals.set("alert", Function::new(ctx.clone(), alert)?)
}

fn addresses(host: &str, names: &Names) -> Vec<IpAddr> {
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => vec![ip],
        Err(_) => names(host),
    }
}

fn join(list: Vec<IpAddr>) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")
}

/// The address that this machine would send from; a connected datagram socket sends nothing.
fn own_address(toward: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(if toward.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).ok()?;
    socket.connect(toward).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// `*` and `?` of a shell; in time that grows with the product of both lengths, whatever the pattern.
fn glob(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}
