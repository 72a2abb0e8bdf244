//! What is known, or what somebody can be asked for: a secret, a token, the keys of AWS.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cached::Cached;
use crate::failure::Failure;
use crate::secret::Secret;

/// Something and how long it may be used before it is fetched again.
pub type Fetching<'a, T> = Pin<Box<dyn Future<Output = Result<(T, Duration), Failure>> + Send + 'a>>;

/// Who has something that the configuration does not: a program, a store, a server. What signs with it does not know whom it
/// is from.
pub trait Provider<T>: Send + Sync {
    /// Asked when it is needed and no earlier answer lives; never twice at the same time for one [`Provided`].
    fn fetch(&self) -> Fetching<'_, T>;
}

/// Something that is here, or can be had. Clones share what was fetched.
#[derive(Clone)]
pub enum Provided<T> {
    Known(T),
    Fetched(Arc<Fetched<T>>),
}

/// A secret that is here, or can be had.
pub type SecretRef = Provided<Secret>;

/// What is not known from the start, and what is known of it by now.
pub struct Fetched<T> {
    provider: Box<dyn Provider<T>>,
    cached: Cached<T>,
}

impl<T: Clone> Provided<T> {
    pub fn by(provider: impl Provider<T> + 'static) -> Self {
        Self::Fetched(Arc::new(Fetched { provider: Box::new(provider), cached: Cached::default() }))
    }

    /// As last known, without asking for it.
    pub fn peek(&self) -> Option<T> {
        match self {
            Self::Known(known) => Some(known.clone()),
            Self::Fetched(fetched) => fetched.cached.peek(),
        }
    }

    /// What [`Provided::get`] would say without waiting.
    pub fn cached(&self) -> Option<Result<T, Failure>> {
        match self {
            Self::Known(known) => Some(Ok(known.clone())),
            Self::Fetched(fetched) => fetched.cached.cached(),
        }
    }

    /// Fetched if need be; many who wait share one fetch.
    ///
    /// # Errors
    /// The provider does not give it.
    pub async fn get(&self) -> Result<T, Failure> {
        match self {
            Self::Known(known) => Ok(known.clone()),
            Self::Fetched(fetched) => fetched.cached.get(|| fetched.provider.fetch()).await,
        }
    }

    /// Can it be had without waiting?
    pub fn is_cached(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Fetched(fetched) => matches!(fetched.cached.cached(), Some(Ok(_))),
        }
    }

    /// What was known from the start.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Fetched(_) => None,
        }
    }

    /// A server refuses what `refused` knows again: it is given up, and the provider asked anew when it is next needed.
    /// False: nothing better is to be had.
    pub fn forget(&self, refused: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Self::Known(_) => false,
            Self::Fetched(fetched) => fetched.cached.forget(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::failure::Cause;

    /// Gives 1, 2, 3, …, and then nothing more.
    struct Counter {
        asked: Arc<AtomicUsize>,
        last: usize,
    }

    impl Provider<usize> for Counter {
        fn fetch(&self) -> Fetching<'_, usize> {
            Box::pin(async {
                tokio::task::yield_now().await;
                let next = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                match next <= self.last {
                    true => Ok((next, Duration::from_secs(60))),
                    false => Err(Failure::new(Cause::Credential, "there are no more")),
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_it_is_asked_once_for_many_and_anew_for_what_was_refused() {
        let asked = Arc::new(AtomicUsize::new(0));
        let number = Provided::by(Counter { asked: asked.clone(), last: 2 });
        let copy = number.clone();
        assert!(number.cached().is_none() && !number.is_cached() && number.known().is_none());
        let all = futures_util::future::join_all((0..8).map(|_| copy.get())).await;
        assert!(all.into_iter().all(|outcome| outcome.ok() == Some(1)));
        assert_eq!((asked.load(Ordering::SeqCst), number.peek(), number.is_cached()), (1, Some(1), true));
        assert!(!number.forget(|known| *known == 9) && number.forget(|known| *known == 1));
        assert_eq!(number.get().await.ok(), Some(2));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(number.forget(|known| *known == 2));
        assert!(number.get().await.is_err() && !number.is_cached());
    }

    #[tokio::test]
    async fn what_is_known_is_asked_of_nobody_and_never_given_up() {
        let known = Provided::Known(7);
        assert!(!known.forget(|_| true) && known.is_cached());
        assert_eq!((known.known(), known.peek(), known.get().await.ok()), (Some(&7), Some(7), Some(7)));
    }
}
