//! Answers kept for a short while, each looked for once however many wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

pub struct ShortCache<K, V, E> {
    entries: Mutex<HashMap<K, Arc<Entry<V, E>>>>,
}

/// Empty while somebody looks for it.
type Entry<V, E> = OnceCell<(Instant, Result<V, E>)>;

impl<K, V, E> Default for ShortCache<K, V, E> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone, E: Clone> ShortCache<K, V, E> {
    fn entries(&self) -> MutexGuard<'_, HashMap<K, Arc<Entry<V, E>>>> {
        self.entries.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What is known of `key` and not older than `keep`; else what `find` finds, for all who ask meanwhile. When who
    /// looks gives up, another of those who wait looks in its place. At most `most` answers are kept.
    ///
    /// # Errors
    /// Those of `find`; they are told to all who wait and then forgotten.
    pub async fn get(&self, key: &K, keep: Duration, most: usize, find: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let entry = self.entry(key, keep, most);
        let (_, found) = entry.get_or_init(|| async { (Instant::now(), find.await) }).await;
        if found.is_err() {
            let mut entries = self.entries();
            if entries.get(key).is_some_and(|known| Arc::ptr_eq(known, &entry)) {
                entries.remove(key);
            }
        }
        found.clone()
    }

    fn entry(&self, key: &K, keep: Duration, most: usize) -> Arc<Entry<V, E>> {
        let good = |entry: &Entry<V, E>| match entry.get() {
            None => true,
            Some((at, found)) => found.is_ok() && at.elapsed() < keep,
        };
        let mut entries = self.entries();
        if let Some(entry) = entries.get(key).filter(|entry| good(entry)) {
            return entry.clone();
        }
        if entries.len() >= most {
            entries.retain(|_, entry| good(entry));
        }
        if entries.len() >= most {
            entries.clear();
        }
        let entry = Arc::new(Entry::new());
        entries.insert(key.clone(), entry.clone());
        entry
    }

    pub fn forget(&self, key: &K) {
        self.entries().remove(key);
    }

    pub fn clear(&self) {
        self.entries().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const KEEP: Duration = Duration::from_secs(5);

    async fn ask(kept: &ShortCache<u8, usize, usize>, asked: &AtomicUsize, key: u8, fails: bool) -> Result<usize, usize> {
        let find = async {
            tokio::task::yield_now().await;
            let n = asked.fetch_add(1, Ordering::Relaxed);
            if fails { Err(n) } else { Ok(n) }
        };
        kept.get(&key, KEEP, 2, find).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_many_ask_at_once_is_looked_for_once_and_again_when_it_is_old() {
        let (kept, asked) = (ShortCache::default(), AtomicUsize::new(0));
        let all = futures_util::future::join_all((0..64).map(|_| ask(&kept, &asked, 1, false))).await;
        assert!(all.iter().all(|answer| *answer == Ok(0)), "{all:?}");
        tokio::time::advance(KEEP - Duration::from_millis(1)).await;
        assert_eq!(ask(&kept, &asked, 1, false).await, Ok(0));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&kept, &asked, 1, false).await, Ok(1));
        kept.forget(&1);
        assert_eq!(ask(&kept, &asked, 1, false).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_to_all_who_wait_and_not_kept() {
        let (kept, asked) = (ShortCache::default(), AtomicUsize::new(0));
        let all = futures_util::future::join_all((0..8).map(|_| ask(&kept, &asked, 1, true))).await;
        assert!(all.iter().all(|answer| *answer == Err(0)), "{all:?}");
        assert_eq!(ask(&kept, &asked, 1, false).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_kept_than_was_said_and_one_who_gives_up_keeps_nobody_waiting() {
        let (kept, asked) = (ShortCache::default(), AtomicUsize::new(0));
        for key in 0..9 {
            ask(&kept, &asked, key, false).await.unwrap();
            assert!(kept.entries().len() <= 2);
        }
        let never = kept.get(&100, KEEP, 2, std::future::pending());
        assert!(tokio::time::timeout(KEEP, never).await.is_err());
        assert_eq!(ask(&kept, &asked, 100, false).await, Ok(9));
    }
}
