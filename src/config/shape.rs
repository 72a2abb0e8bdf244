//! What the value of a key may be. From a key's shape follow what its reader accepts, what the JSON Schema says, and
//! what of it may be shown when a mistake is told: only what is declared harmless here.

/// One key.
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
}

/// One setting of an auth type: name, shape, default or "required", meaning.
pub type Setting = (&'static str, Shape, &'static str, &'static str);

/// A type of credential, as the schema, the docs and the display of mistakes need it.
#[derive(Clone, Copy)]
pub struct AuthType {
    pub name: &'static str,
    pub doc: &'static str,
    /// What may stand directly behind its name, instead of a map of settings.
    pub short: Option<Shape>,
    pub settings: &'static [Setting],
}

/// What a value may be.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Text that nothing is known of; it may be secret, or personal.
    Text,
    /// A SECRET: text with `${…}`, or `{ env: }`, `{ file: }`, `{ exec: }`, `{ keyring: }`.
    Secret,
    /// A SECRET, or the path of a file that holds one: private keys.
    Key,
    /// Text that is harmless as long as it looks like what it should be: regions, realms, labels.
    Plain,
    /// The name of a header, parameter, cookie or field.
    Field,
    /// What a credential, certificate, bundle or profile is called where it is defined.
    Name,
    /// An environment variable.
    Variable,
    /// Host names, globs over them, addresses, ranges of them; with or without a port.
    Host,
    /// Where to listen.
    Listen,
    Url,
    /// A glob over the paths of URLs.
    UrlPath,
    /// The path of a file or folder.
    File,
    /// The path of a PEM file, or its text.
    Pem,
    /// [`Shape::Pem`] in which nothing is secret: certificates.
    Certificate,
    /// A program, by name or path, and its arguments.
    Command,
    /// One of those, which may be anything.
    Argument,
    /// The URI of a key on a token (RFC 7512), in which a PIN may stand.
    TokenUri,
    /// `sha256/BASE64` of a public key.
    Pin,
    Bool,
    Number,
    Time,
    Size,
    /// Number, range, or `any`.
    Port,
    Words(&'static [&'static str]),
    /// One or a list.
    Many(&'static Shape),
    /// A list.
    List(&'static Shape),
    /// A map with these keys.
    Block(&'static [Field]),
    /// A map of names that the configuration gives.
    Names(&'static Shape),
    /// A map of the names of headers, parameters, cookies or fields.
    Fields(&'static Shape),
    /// A map whose keys nothing is known of; they may be personal, or secret.
    Map(&'static Shape),
    OneOf(&'static [Shape]),
    /// A map of exactly one auth type to its settings.
    Credential,
    Rule,
    Limits,
    /// A further configuration.
    Root,
    /// Anything that JSON can say.
    Json,
}

pub const fn f(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, doc }
}

pub fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}
