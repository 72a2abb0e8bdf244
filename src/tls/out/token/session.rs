//! One open session with a token: its key found, its certificates read, its signatures made.

use std::sync::RwLockReadGuard;

use cryptoki::context::{Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use rustls::SignatureScheme;

use super::errors::words;
use super::module::{self, Module};
use super::sign::{self, TRIAL, Trial};
use super::{Wanted, login};
use crate::tls::Problem;
use crate::tls::formats::inspect::Details;
use crate::tls::token_uri::TokenUri;
use crate::tls::token_uri::id_text;

/// Objects of one kind that are looked at on one token.
const OBJECTS: usize = 256;
/// So many are named in a message.
const NAMED: usize = 8;

pub(super) struct Open {
    module: Module,
    /// The time of the module that the session belongs to.
    time: u64,
    /// `None` only while it is dropped.
    session: Option<Session>,
    key: Key,
    token: String,
    schemes: Vec<SignatureScheme>,
}

/// All that is needed to make an identity of it.
pub(super) struct Found {
    /// Its label.
    pub token: String,
    pub schemes: Vec<SignatureScheme>,
    pub trial: Trial,
    /// Those with the key's id first, the longest valid first among them.
    pub certificates: Vec<(Vec<u8>, Details)>,
    pub warnings: Vec<Problem>,
}

struct Key {
    handle: ObjectHandle,
    id: Vec<u8>,
    label: String,
    kind: KeyType,
    curve: Option<Vec<u8>>,
    always_authenticate: bool,
}

impl Open {
    /// Finds the token, opens it with the PIN, finds the key.
    pub(super) fn new(wanted: &Wanted) -> Result<Self, Problem> {
        let modules = module::open_all(wanted)?;
        let found = match one_token(&modules, wanted) {
            Err(problem) if problem.code == NO_TOKEN_AT_ALL && modules.iter().any(Module::restart) => one_token(&modules, wanted),
            other => other,
        };
        let (library, slot, info) = found?;
        let (module, time) = library.enter();
        let token = info.label().to_owned();
        let cannot = |doing: &str, error: &Error| wanted.problem("token", format!("the token {token} {doing}: {}", words(error)));
        let session = module.open_ro_session(slot).map_err(|error| cannot("cannot be opened", &error))?;
        login::login(&session, &info, wanted)?;
        let key = one_key(&session, wanted, &token)?;
        let mechanisms = module.get_mechanism_list(slot).map_err(|error| cannot("does not tell its mechanisms", &error))?;
        let unusable = |why: String| {
            let message = format!("the key {} on the token {token} cannot be used: {why}", key.name());
            wanted.problem("unsupported-key", message)
        };
        if key.always_authenticate {
            let why = "it wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE)";
            return Err(
                unusable(why.to_owned()).help("use a key made for authentication (on PIV cards the one in slot 9a, `id=%01`)")
            );
        }
        let schemes = sign::schemes(key.kind, key.curve.as_deref(), &mechanisms)
            .map_err(|why| unusable(why).help("supported are RSA, EC P-256, P-384 and P-521, and Ed25519: use another key"))?;
        let time = *time;
        Ok(Self { module: library.clone(), time, session: Some(session), key, token, schemes })
    }

    /// A trial signature and the certificates.
    pub(super) fn examine(&self, wanted: &Wanted) -> Result<Found, Problem> {
        let scheme = *self.schemes.first().ok_or_else(|| wanted.problem("unsupported-key", "the key has no scheme"))?;
        let trial = self.trial(scheme).map_err(|error| {
            let message = format!("the key {} on the token {} does not sign: {}", self.key.name(), self.token, words(&error));
            wanted.problem("unsupported-key", message).help("use a key that may sign (CKA_SIGN)")
        })?;
        let (certificates, warnings) = self.certificates(wanted).map_err(|error| {
            wanted.problem("token", format!("the certificates on the token {} cannot be read: {}", self.token, words(&error)))
        })?;
        Ok(Found { token: self.token.clone(), schemes: self.schemes.clone(), trial, certificates, warnings })
    }

    pub(super) fn trial(&self, scheme: SignatureScheme) -> Result<Trial, Error> {
        Ok(Trial { scheme, signature: self.sign(scheme, TRIAL)?, key: std::sync::Arc::default() })
    }

    pub(super) fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        let (mechanism, data) = sign::request(scheme, message).ok_or(Error::NotSupported)?;
        let (session, _guard) = self.session()?;
        let signature = session.sign(&mechanism, self.key.handle, &data)?;
        Ok(sign::answer(scheme, signature))
    }

    /// The session, if its module was not started again meanwhile.
    fn session(&self) -> Result<(&Session, RwLockReadGuard<'_, u64>), Error> {
        let (_, time) = self.module.enter();
        match &self.session {
            Some(session) if *time == self.time => Ok((session, time)),
            _ => Err(Error::Pkcs11(RvError::SessionClosed, Function::GetSessionInfo)),
        }
    }

    #[allow(clippy::type_complexity)]
    fn certificates(&self, wanted: &Wanted) -> Result<(Vec<(Vec<u8>, Details)>, Vec<Problem>), Error> {
        let mut own = Vec::new();
        let mut warnings = Vec::new();
        let (session, _guard) = self.session()?;
        for handle in objects(session, &[Attribute::Class(ObjectClass::CERTIFICATE)])? {
            let attributes = session.get_attributes(handle, &[AttributeType::Id, AttributeType::Label, AttributeType::Value])?;
            let (mut id, mut label, mut der) = (Vec::new(), String::new(), Vec::new());
            for attribute in attributes {
                match attribute {
                    Attribute::Id(bytes) => id = bytes,
                    Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                    Attribute::Value(bytes) => der = bytes,
                    _ => {}
                }
            }
            match Details::read(&der) {
                Ok(details) => own.push((id == self.key.id && !id.is_empty(), der, details)),
                Err(wrong) => {
                    let message = format!("the certificate \"{label}\" on the token {} is passed over: {wrong}", self.token);
                    warnings.push(wanted.problem("broken-entry", message).help("write it there again"));
                }
            }
        }
        own.sort_by_key(|(same_id, _, details)| std::cmp::Reverse((*same_id, details.not_after)));
        Ok((own.into_iter().map(|(_, der, details)| (der, details)).collect(), warnings))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (_, time) = self.module.enter();
        // The handle of an earlier time may be another's by now, who must not have it closed.
        if *time != self.time {
            std::mem::forget(self.session.take());
        }
        self.session = None;
    }
}

impl Key {
    fn name(&self) -> String {
        format!("object={};id={}", self.label, id_text(&self.id))
    }
}

fn objects(session: &Session, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Error> {
    session.iter_objects(template)?.take(OBJECTS).collect()
}

/// Not even another one: the service behind the module may have gone.
const NO_TOKEN_AT_ALL: &str = "no-token-at-all";

/// The token that the URI means, in the first module that has one.
fn one_token(modules: &[Module], wanted: &Wanted) -> Result<(Module, Slot, TokenInfo), Problem> {
    let mut present = Vec::new();
    for library in modules {
        let (module, _guard) = library.enter();
        let Ok(slots) = module.get_slots_with_token() else { continue };
        let mut fitting = Vec::new();
        for slot in slots {
            let Ok(info) = module.get_token_info(slot) else { continue };
            // Stores of trusted CAs are tokens too, and have no mechanism at all.
            if !info.token_initialized() || module.get_mechanism_list(slot).map_or(true, |list| list.is_empty()) {
                continue;
            }
            present.push(info.label().to_owned());
            if fits(&wanted.uri, module, slot, &info) {
                fitting.push((library.clone(), slot, info));
            }
        }
        if fitting.len() > 1 {
            let labels = fitting
                .iter()
                .map(|(_, slot, info)| format!("token={};serial={};slot-id={}", info.label(), info.serial_number(), slot.id()));
            let message = format!("{} means {} tokens: {}", wanted.uri, fitting.len(), few(labels));
            return Err(wanted.problem("several-tokens", message).help("add `token=` or `serial=` to the URI"));
        }
        if let Some(found) = fitting.pop() {
            return Ok(found);
        }
    }
    let (code, message) = match present.is_empty() {
        true => (NO_TOKEN_AT_ALL, format!("there is no token for {}: none is present", wanted.uri)),
        false => ("no-token", format!("there is no token for {}; present: {}", wanted.uri, few(present.into_iter()))),
    };
    Err(wanted
        .problem(code, message)
        .help("is it plugged in, and its service running? `p11tool --list-tokens` shows what there is"))
}

fn fits(uri: &TokenUri, module: &Pkcs11, slot: Slot, token: &TokenInfo) -> bool {
    uri.place.iter().all(|(name, value)| {
        let library = || module.get_library_info().ok();
        let place = || module.get_slot_info(slot).ok();
        match *name {
            "token" => token.label() == value,
            "manufacturer" => token.manufacturer_id() == value,
            "serial" => token.serial_number() == value,
            "model" => token.model() == value,
            "slot-id" => value.parse() == Ok(slot.id()),
            "slot-description" => place().is_some_and(|slot| slot.slot_description() == value),
            "slot-manufacturer" => place().is_some_and(|slot| slot.manufacturer_id() == value),
            "library-description" => library().is_some_and(|library| library.library_description() == value),
            "library-manufacturer" => library().is_some_and(|library| library.manufacturer_id() == value),
            "library-version" => library().is_some_and(|library| {
                let version = library.library_version();
                *value == format!("{}.{}", version.major(), version.minor())
            }),
            _ => false,
        }
    })
}

/// The one private key that the URI means.
fn one_key(session: &Session, wanted: &Wanted, token: &str) -> Result<Key, Problem> {
    let unreadable =
        |error: &Error| wanted.problem("token", format!("the keys on the token {token} cannot be read: {}", words(error)));
    let private = Attribute::Class(ObjectClass::PRIVATE_KEY);
    let mut template = vec![private.clone()];
    template.extend(wanted.uri.id.clone().map(Attribute::Id));
    template.extend(wanted.uri.object.clone().map(|label| Attribute::Label(label.into_bytes())));
    let read = |template: &[Attribute]| -> Result<Vec<Key>, Error> {
        objects(session, template)?.into_iter().map(|handle| key(session, handle)).collect()
    };
    let mut found = read(&template).map_err(|error| unreadable(&error))?;
    match found.len() {
        1 => found.pop().ok_or_else(|| wanted.problem("no-key", "no key")),
        0 => {
            let present = read(&[private]).unwrap_or_default();
            let has = if present.is_empty() {
                "it shows no private key".to_owned()
            } else {
                format!("it has {}", few(present.iter().map(Key::name)))
            };
            Err(wanted.problem("no-key", format!("there is no key for {} on the token {token}; {has}", wanted.uri)).help(match (
                present.is_empty(),
                &wanted.pin,
            ) {
                (true, None) => "private keys show themselves only after the PIN: add `pin:`",
                _ => "check `object=` and `id=` in the URI",
            }))
        }
        many => {
            let names = few(found.iter().map(Key::name));
            let message = format!("{} means {many} keys on the token {token}: {names}", wanted.uri);
            Err(wanted.problem("several-keys", message).help("add `object=` or `id=` to the URI, as they are shown here"))
        }
    }
}

fn key(session: &Session, handle: ObjectHandle) -> Result<Key, Error> {
    let mut key = Key {
        handle,
        id: Vec::new(),
        label: String::new(),
        kind: KeyType::GENERIC_SECRET,
        curve: None,
        always_authenticate: false,
    };
    use AttributeType as Type;
    for attribute in
        session.get_attributes(handle, &[Type::Id, Type::Label, Type::KeyType, Type::EcParams, Type::AlwaysAuthenticate])?
    {
        match attribute {
            Attribute::Id(id) => key.id = id,
            Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).into_owned(),
            Attribute::KeyType(kind) => key.kind = kind,
            Attribute::EcParams(curve) => key.curve = Some(curve),
            Attribute::AlwaysAuthenticate(always) => key.always_authenticate = always,
            _ => {}
        }
    }
    Ok(key)
}

fn few(names: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = names.collect();
    match all.len() {
        0..=NAMED => all.join(", "),
        more => format!("{} and {} more", all[..NAMED].join(", "), more - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_few_of_many() {
        assert_eq!(few((0..3).map(|n| n.to_string())), "0, 1, 2");
        assert!(few((0..20).map(|n| n.to_string())).ends_with("7 and 12 more"));
    }
}
