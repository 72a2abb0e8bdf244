//! What the value of a key may be. From a key's shape follow what its reader accepts, what the JSON Schema says, and
//! what of it may be shown when a mistake is told: only what is declared harmless here.

use std::collections::BTreeMap;

/// One key.
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub doc: &'static str,
}

/// What a document may hold: the shape of the whole, and what its shapes speak of by name.
#[derive(Clone)]
pub struct Schema {
    pub root: Shape,
    pub definitions: BTreeMap<&'static str, Definition>,
    /// Keys of the root behind which stand maps of names that the document gives to things, for [`Shape::Name`].
    pub naming: &'static [&'static str],
}

/// A map of known keys.
#[derive(Clone, Default)]
pub struct Definition {
    /// What may stand instead of the map.
    pub short: Option<Shape>,
    /// The keys, and what may stand behind each; of a key given twice the first counts.
    pub keys: Vec<(&'static str, Shape)>,
}

impl Schema {
    /// Of a document whose shape needs no definition.
    pub fn of(root: Shape) -> Self {
        Self { root, definitions: BTreeMap::new(), naming: &[] }
    }

    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }
}

impl Default for Schema {
    /// Nothing is known of the document.
    fn default() -> Self {
        Self::of(Shape::Json)
    }
}

impl Definition {
    pub fn of(fields: &[Field]) -> Self {
        Self { short: None, keys: fields.iter().map(|field| (field.name, field.shape)).collect() }
    }
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
    /// What the schema defines under this name.
    Defined(&'static str),
    /// Anything that JSON can say.
    Json,
}

pub const fn f(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, doc }
}

pub fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// The forms of a SECRET besides plain text.
pub const SECRET: &[Field] = &[
    f("env", Shape::Variable, "an environment variable"),
    f("file", Shape::File, "a file; its final line break is cut"),
    f("exec", Shape::Command, "a program and its arguments, run without a shell when the secret is first needed"),
    f("keyring", Shape::Plain, "SERVICE/USER of an entry of the system's keyring"),
    f("ttl", Shape::Time, "with `exec` or `keyring`: how long the output is kept (10m)"),
    f("timeout", Shape::Time, "with `exec` or `keyring`: how long one run may take"),
    f("format", Shape::Words(&["raw", "json"]), "with `exec`: raw (the default), or json for one member of the output"),
    f("field", Shape::Plain, "with `exec`: the member that holds the secret, as in .token"),
];
