//! gatepass inside another program: [`Gatepass`] is read and checked from a [`Builder`], and serves as a [`Handle`].
//!
//! The crate's first page has an example. Nothing is taken from the process but what the builder is given: no variable of
//! the environment, no configuration that happens to lie about. Diagnostics go to `tracing`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth;
use crate::config::Request;
use crate::files;
use crate::observe::Observe;
use crate::serve::{self, Built, Drained, Running, StartError};

/// A gatepass that has been read and checked, and does not listen yet.
pub struct Gatepass {
    built: Built,
    request: Request,
}

/// What a [`Gatepass`] is made of.
pub struct Builder {
    request: Request,
}

/// A gatepass that serves, until [`Handle::stop`] or until it is dropped.
pub struct Handle {
    running: Option<Running>,
}

impl Gatepass {
    /// From the text of a configuration; relative paths in it start at the working directory.
    pub fn from_yaml(text: impl Into<String>) -> Builder {
        Builder::of(Request { inline: Some(("(embedded)".to_owned(), text.into(), PathBuf::new())), ..Request::default() })
    }

    /// From a file, which is watched: when it changes, or a file that it names, it is read again.
    pub fn from_file(path: impl Into<PathBuf>) -> Builder {
        Builder::of(Request { files: vec![path.into()], ..Request::default() })
    }

    /// What was found that may be a mistake, as `gatepass check` shows it.
    pub fn warnings(&self) -> Option<String> {
        let report = &self.built.report;
        report.has_warnings().then(|| report.render(false))
    }

    /// Binds every listener and begins to serve, on the Tokio runtime that this is called in. As `gatepass run` does, it
    /// raises the process's soft limit of open files as far as the hard one allows.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(self) -> Result<Handle, StartError> {
        let running = serve::start(self.built, self.request, Observe::default()).await?;
        Ok(Handle { running: Some(running) })
    }
}

impl Builder {
    fn of(request: Request) -> Self {
        Self { request: Request { ca_in_memory: true, auth_types: auth::types(), ..request } }
    }

    /// A variable, for `${NAME}` in the configuration and whatever else is read from the environment (`HTTPS_PROXY`, `HOME`).
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.env.insert(name.into(), value.into());
        self
    }

    /// Where the forward listener is, instead of where the configuration says; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.request.listen = Some(address.into());
        self
    }

    /// One of the configuration's `profiles`.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.request.profile = Some(name.into());
        self
    }

    /// The folder for what is kept between runs: the interception CA, tokens, sessions. Without it the CA is made anew in
    /// memory each time.
    #[must_use]
    pub fn home(mut self, folder: impl Into<String>) -> Self {
        self.request.ca_in_memory = false;
        self.env("GATEPASS_HOME", folder)
    }

    /// Reads the configuration, and the keys and certificates that it names.
    ///
    /// # Errors
    /// The configuration has mistakes; all of them are told, each with its place.
    pub async fn build(self) -> Result<Gatepass, StartError> {
        let built = serve::build(&self.request).await.map_err(StartError::Report)?;
        Ok(Gatepass { built, request: self.request })
    }
}

impl Handle {
    /// Where it listens on TCP, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.running.iter().flat_map(|running| &running.addresses).map(|(address, _)| *address).collect()
    }

    /// Where `/live`, `/ready` and `/metrics` are, if the configuration has `admin`.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.running.as_ref()?.admin
    }

    /// The certificate of the interception CA, which clients must trust, as PEM.
    pub fn ca_pem(&self) -> String {
        let pem = |running: &Running| running.context.gate().authority.certificate_pem().to_owned();
        self.running.as_ref().map(pem).unwrap_or_default()
    }

    /// Reads the configuration again; one with mistakes leaves the old one in force, and `tracing` has them.
    pub async fn reload(&self) {
        if let Some(running) = &self.running {
            running.reload().await;
        }
    }

    /// Accepts no more connections, gives those that there are `limits.grace` to end, and cuts the rest.
    pub async fn stop(mut self) -> Drained {
        match self.running.take() {
            Some(running) => running.stop().await,
            None => Drained { cut: 0 },
        }
    }
}

impl Drop for Handle {
    /// Without grace: everything ends at once.
    fn drop(&mut self) {
        let Some(running) = &self.running else { return };
        running.context.stopping.cancel();
        running.context.cut.cancel();
        for (path, _) in &running.sockets {
            let _ = files::remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn mistakes_are_told_with_their_places_and_warnings_do_not_stop_it() {
        let wrong = Gatepass::from_yaml("rules:\n  - host: a.test\n    baerer: x\n").build().await.err().unwrap();
        assert!(wrong.to_string().contains("(embedded):3:5") && wrong.to_string().contains("bearer"), "{wrong}");
        assert_eq!(format!("{wrong:?}"), wrong.to_string());
        let good = Gatepass::from_yaml("rules: []\n").build().await.unwrap();
        assert_eq!(good.warnings(), None);
    }

    #[tokio::test]
    async fn the_environment_is_what_the_builder_was_given() {
        let yaml = "rules: [{ host: a.test, bearer: '${PATH}' }]";
        assert!(Gatepass::from_yaml(yaml).build().await.is_err());
        assert!(Gatepass::from_yaml(yaml).env("PATH", "t0k").build().await.is_ok());
    }

    async fn serving(yaml: &str) -> Handle {
        Gatepass::from_yaml(yaml).listen("127.0.0.1:0").build().await.unwrap().start().await.unwrap()
    }

    async fn closes(address: SocketAddr) {
        let closed = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
    }

    #[tokio::test]
    async fn it_listens_until_it_is_dropped() {
        let handle = serving("rules: []").await;
        let address = handle.addresses()[0];
        assert_eq!(handle.admin(), None);
        assert!(handle.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(TcpStream::connect(address).await.is_ok());
        drop(handle);
        closes(address).await;
    }

    #[tokio::test]
    async fn nothing_of_it_listens_after_it_was_stopped() {
        let handle = serving("rules: []\nadmin: { listen: 127.0.0.1:0 }").await;
        let (address, admin) = (handle.addresses()[0], handle.admin().unwrap());
        assert!(TcpStream::connect(admin).await.is_ok());
        assert_eq!(handle.stop().await.cut, 0);
        closes(address).await;
        closes(admin).await;
    }
}
