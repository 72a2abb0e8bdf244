//! The jar: cookies of one credential, bounded, in a file that only its owner may read. One file is one
//! jar of a gatepass, so a reload keeps it; several processes that share a file each learn what the
//! others learnt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Cookie, is_within, sort};
use crate::files::{self, Stamp};
use crate::initiator::site;
use crate::moment::Moment;
use crate::origin::{Origin, Scheme};
use crate::secret::Secret;

/// Cookies in one jar, and of one site (RFC 6265 §6.1 asks for 3,000 and 50 at least).
const COOKIES: usize = 3_000;
const COOKIES_OF_SITE: usize = 180;
/// Bytes of all their names, values, domains and paths.
const BYTES: usize = 1024 * 1024;
/// A file of these is never larger, JSON around them included.
const FILE: usize = 8 * 1024 * 1024;
/// How often is looked whether another process changed the file.
const LOOK: Duration = Duration::from_millis(500);

pub struct Jar {
    file: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    cookies: Vec<Cookie>,
    /// Changed since it was last written.
    dirty: bool,
    /// Somebody is writing, and will see `dirty`.
    writing: bool,
    /// The file as last read or written, and when it was last looked at.
    stamp: Option<Stamp>,
    looked: Instant,
    /// The newest `learnt` that the file had then: what is newer is news on either side.
    synced: u64,
}

/// Every jar that is in use. One file is one jar here.
#[derive(Default)]
pub struct Jars(Mutex<Vec<Weak<Jar>>>);

impl Jars {
    /// The jar of a file, which need not exist yet.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours; in words.
    pub fn open(&self, file: &Path) -> Result<Arc<Jar>, String> {
        let mut jars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jars.retain(|jar| jar.strong_count() > 0);
        if let Some(jar) = jars.iter().filter_map(Weak::upgrade).find(|jar| jar.file == file) {
            return Ok(jar);
        }
        let stamp = files::stamp(file);
        let cookies = if stamp.is_some() { read(file)? } else { Vec::new() };
        let synced = newest(&cookies);
        let inner = Inner { cookies, dirty: false, writing: false, stamp, looked: Instant::now(), synced };
        let jar = Arc::new(Jar { file: file.to_owned(), inner: Mutex::new(inner) });
        jars.push(Arc::downgrade(&jar));
        Ok(jar)
    }
}

impl Jar {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what another process wrote, looked for twice a second at most.
    pub fn refresh(&self) {
        let mut inner = self.inner();
        if inner.looked.elapsed() < LOOK || inner.writing {
            return;
        }
        inner.looked = Instant::now();
        let stamp = files::stamp(&self.file);
        if stamp != inner.stamp {
            inner.take_in(&self.file, stamp);
        }
    }

    /// The cookies for a request, in the order in which they are sent.
    pub fn cookies(&self, holder: &str, origin: &Origin, path: &str, moment: &Moment) -> Vec<(String, Secret)> {
        let (inner, now) = (self.inner(), moment.unix());
        let belongs = |cookie: &&Cookie| cookie.holder == holder && cookie.belongs_to(origin, path, now);
        let mut found: Vec<&Cookie> = inner.cookies.iter().filter(belongs).collect();
        sort(&mut found);
        found.into_iter().map(|cookie| (cookie.name.clone(), cookie.value.clone())).collect()
    }

    /// What an answer's `Set-Cookie` fields say.
    pub fn learn<'a>(
        self: &Arc<Self>,
        holder: &str,
        fields: impl Iterator<Item = &'a [u8]>,
        origin: &Origin,
        path: &str,
        moment: &Moment,
    ) {
        let (now, in_clear) = (moment.unix(), origin.scheme == Scheme::Http);
        let read = fields.filter_map(|field| Cookie::parse(field, origin, path, now));
        let learnt: Vec<Cookie> = read.map(|cookie| Cookie { holder: holder.to_owned(), ..cookie }).collect();
        self.change(moment, |inner| {
            let mut changed = false;
            for cookie in learnt {
                changed |= inner.put(cookie, in_clear, now);
            }
            changed
        });
    }

    /// What a browser sent of its own with a request that was answered well.
    pub fn learn_sent<'a>(
        self: &Arc<Self>,
        holder: &str,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        origin: &Origin,
        path: &str,
        moment: &Moment,
    ) {
        let (now, in_clear) = (moment.unix(), origin.scheme == Scheme::Http);
        self.change(moment, |inner| {
            let mut changed = false;
            for (name, value) in pairs {
                let is_it =
                    |cookie: &&Cookie| cookie.name == name && cookie.holder == holder && cookie.belongs_to(origin, path, now);
                let known = inner.cookies.iter().find(is_it);
                let cookie = match known {
                    Some(known) if known.value.expose() == value => None,
                    Some(known) => Some(Cookie { value: Secret::new(value), ..known.clone() }),
                    None => Cookie::sent(name, value, origin, now).map(|cookie| Cookie { holder: holder.to_owned(), ..cookie }),
                };
                changed |= cookie.is_some_and(|cookie| inner.put(cookie, in_clear, now));
            }
            changed
        });
    }

    /// `Clear-Site-Data: "cookies"`: all of the site's. Heeded of https alone (Clear Site Data §3.1).
    pub fn clear(self: &Arc<Self>, holder: &str, origin: &Origin, moment: &Moment) {
        if origin.scheme == Scheme::Http {
            return;
        }
        let host = origin.host.to_string();
        let site = site(&host);
        self.change(moment, |inner| {
            let before = inner.cookies.len();
            inner.cookies.retain(|cookie| cookie.holder != holder || !is_within(&cookie.domain, site));
            inner.cookies.len() != before
        });
    }

    fn change(self: &Arc<Self>, moment: &Moment, change: impl FnOnce(&mut Inner) -> bool) {
        let mut inner = self.inner();
        if !change(&mut inner) {
            return;
        }
        inner.bound(moment.unix());
        inner.dirty = true;
        if std::mem::replace(&mut inner.writing, true) {
            return;
        }
        drop(inner);
        let jar = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || jar.write())),
            Err(_) => jar.write(),
        }
    }

    /// Writes until there is nothing new.
    fn write(&self) {
        loop {
            let mut inner = self.inner();
            if !std::mem::replace(&mut inner.dirty, false) {
                inner.writing = false;
                return;
            }
            drop(inner);
            if let Err(cause) = self.write_once() {
                tracing::warn!("captured cookies are not kept: {cause}");
            }
        }
    }

    fn write_once(&self) -> Result<(), files::FileError> {
        if let Some(folder) = self.file.parent() {
            files::create_private_dir(folder)?;
        }
        let _turn = files::lock(&self.file.with_extension("lock"))?;
        let mut inner = self.inner();
        let stamp = files::stamp(&self.file);
        if stamp != inner.stamp {
            inner.take_in(&self.file, stamp);
        }
        let (text, newest) = (write(&inner.cookies), newest(&inner.cookies));
        drop(inner);
        files::write_private(&self.file, text.as_bytes())?;
        let mut inner = self.inner();
        inner.stamp = files::stamp(&self.file);
        inner.synced = newest;
        Ok(())
    }
}

impl Inner {
    /// Replaces the cookie of the same name and place, or takes it away when its end has come. Did that change anything?
    fn put(&mut self, mut cookie: Cookie, in_clear: bool, now: u64) -> bool {
        let known = self.cookies.iter().position(|old| old.is_same(&cookie));
        if in_clear && self.cookies.iter().any(|old| old.expires > now && cookie.overlays(old)) {
            return false;
        }
        cookie.learnt = newest(&self.cookies).max(self.synced).max(now.saturating_mul(1000)) + 1;
        match known {
            Some(at) if cookie.expires <= now => drop(self.cookies.remove(at)),
            Some(at) => {
                let old = &self.cookies[at];
                // An end that moves with each answer is not worth a write each.
                if old.value == cookie.value && old.secure == cookie.secure && cookie.expires.abs_diff(old.expires) < 60 {
                    return false;
                }
                self.cookies[at] = cookie;
            }
            None if cookie.expires <= now => return false,
            None => self.cookies.push(cookie),
        }
        true
    }

    /// Takes out what has ended, then the longest known, until all bounds hold.
    fn bound(&mut self, now: u64) {
        self.cookies.retain(|cookie| cookie.expires > now);
        while let Some((holder, crowded)) = self.crowded() {
            let one_of =
                |cookie: &Cookie| cookie.holder == holder && crowded.as_deref().is_none_or(|s| site(&cookie.domain) == s);
            let oldest = self.cookies.iter().enumerate().filter(|(_, cookie)| one_of(cookie));
            let Some((at, _)) = oldest.min_by_key(|(_, cookie)| cookie.learnt) else { return };
            self.cookies.remove(at);
        }
    }

    /// Whose cookies are too many: all of theirs where the jar is too full (of those who have most), or those of a site.
    fn crowded(&self) -> Option<(String, Option<String>)> {
        if self.cookies.len() > COOKIES || self.cookies.iter().map(Cookie::size).sum::<usize>() > BYTES {
            let mut sizes: HashMap<&str, usize> = HashMap::new();
            for cookie in &self.cookies {
                *sizes.entry(&cookie.holder).or_default() += cookie.size();
            }
            let most = sizes.into_iter().max_by_key(|(_, size)| *size)?;
            return Some((most.0.to_owned(), None));
        }
        let newest = self.cookies.iter().max_by_key(|cookie| cookie.learnt)?;
        let of_site = |cookie: &&Cookie| cookie.holder == newest.holder && site(&cookie.domain) == site(&newest.domain);
        let many = self.cookies.iter().filter(of_site).count() > COOKIES_OF_SITE;
        many.then(|| (newest.holder.clone(), Some(site(&newest.domain).to_owned())))
    }

    /// Joins what the file has with what is here: of the same cookie the newer; of one that is only on one
    /// side, the newcomer, since what was known to both has been taken away on the other.
    fn take_in(&mut self, file: &Path, stamp: Option<Stamp>) {
        let theirs = match stamp {
            None => Vec::new(),
            Some(_) => match read(file) {
                Ok(cookies) => cookies,
                Err(why) => {
                    tracing::warn!("captured cookies of another process are not taken in: {why}");
                    self.stamp = stamp;
                    return;
                }
            },
        };
        let mut joined: Vec<Cookie> = Vec::new();
        for cookie in theirs {
            match self.cookies.iter().find(|own| own.is_same(&cookie)) {
                Some(own) if own.learnt > cookie.learnt => joined.push(own.clone()),
                Some(_) => joined.push(cookie),
                None if cookie.learnt > self.synced => joined.push(cookie),
                None => {}
            }
        }
        for own in std::mem::take(&mut self.cookies) {
            if own.learnt > self.synced && !joined.iter().any(|cookie| cookie.is_same(&own)) {
                joined.push(own);
            }
        }
        self.cookies = joined;
        self.synced = self.synced.max(newest(&self.cookies));
        self.stamp = stamp;
    }
}

fn newest(cookies: &[Cookie]) -> u64 {
    cookies.iter().map(|cookie| cookie.learnt).max().unwrap_or(0)
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    cookies: Vec<KeptCookie>,
}

#[derive(Serialize, Deserialize)]
struct KeptCookie {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    holder: String,
    name: String,
    value: String,
    domain: String,
    host_only: bool,
    path: String,
    secure: bool,
    expires: u64,
    learnt: u64,
}

fn read(file: &Path) -> Result<Vec<Cookie>, String> {
    let text = files::read_text(file, FILE).map_err(|cause| cause.to_string())?;
    let kept: Kept = serde_json::from_str(&text).map_err(|_| format!("{} is no cookie file of gatepass", file.display()))?;
    if !(1..=2).contains(&kept.version) {
        return Err(format!("{} is of a newer gatepass (version {})", file.display(), kept.version));
    }
    let cookies = kept.cookies.into_iter().take(COOKIES);
    Ok(cookies
        .map(|KeptCookie { holder, name, value, domain, host_only, path, secure, expires, learnt }| Cookie {
            holder,
            name,
            value: Secret::new(value),
            domain,
            host_only,
            path,
            secure,
            expires,
            learnt,
        })
        .collect())
}

fn write(cookies: &[Cookie]) -> String {
    // One that knows of no holders must not read theirs as its own.
    let version = if cookies.iter().any(|cookie| !cookie.holder.is_empty()) { 2 } else { 1 };
    let cookies = cookies
        .iter()
        .map(|cookie| KeptCookie {
            holder: cookie.holder.clone(),
            name: cookie.name.clone(),
            value: cookie.value.expose().to_owned(),
            domain: cookie.domain.clone(),
            host_only: cookie.host_only,
            path: cookie.path.clone(),
            secure: cookie.secure,
            expires: cookie.expires,
            learnt: cookie.learnt,
        })
        .collect();
    serde_json::to_string_pretty(&Kept { version, cookies }).unwrap_or_default()
}
