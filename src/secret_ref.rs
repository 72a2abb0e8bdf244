//! A secret that is known, or that somebody can be asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cached::Cached;
use crate::failure::Failure;
use crate::secret::Secret;

/// A secret and how long it may be used before it is fetched again.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<(Secret, Duration), Failure>> + Send + 'a>>;

/// Who has a secret that the configuration does not: a program, a store. The room `secrets` has those there are.
pub trait Provider: Send + Sync {
    /// Asked when the secret is needed and no earlier answer lives; never twice at the same time for one [`SecretRef`].
    fn fetch(&self) -> Fetching<'_>;
}

/// A secret that is here, or can be had. Clones share what was fetched.
#[derive(Clone)]
pub enum SecretRef {
    Known(Secret),
    Provided(Arc<Provided>),
}

/// A secret that is not known from the start, and what is known of it by now.
pub struct Provided {
    provider: Box<dyn Provider>,
    cached: Cached<Secret>,
}

impl SecretRef {
    pub fn provided(provider: impl Provider + 'static) -> Self {
        Self::Provided(Arc::new(Provided { provider: Box::new(provider), cached: Cached::default() }))
    }

    /// The secret as last known, without asking for it.
    pub fn peek(&self) -> Option<Secret> {
        match self {
            Self::Known(secret) => Some(secret.clone()),
            Self::Provided(provided) => provided.cached.peek(),
        }
    }

    /// The secret, fetched if need be; many who wait share one fetch.
    ///
    /// # Errors
    /// The provider does not give it.
    pub async fn get(&self) -> Result<Secret, Failure> {
        match self {
            Self::Known(secret) => Ok(secret.clone()),
            Self::Provided(provided) => provided.cached.get(|| provided.provider.fetch()).await,
        }
    }

    /// Can it be had without waiting?
    pub fn is_cached(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Provided(provided) => matches!(provided.cached.cached(), Some(Ok(_))),
        }
    }

    /// The secret, if it was known from the start.
    pub fn known(&self) -> Option<&Secret> {
        match self {
            Self::Known(secret) => Some(secret),
            Self::Provided(_) => None,
        }
    }
}
