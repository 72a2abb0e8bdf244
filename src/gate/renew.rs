//! The same gate with what workload agents have sent since. Not a reload: what else is on the disk by then,
//! and whether it is right, must not decide whether a certificate that lives an hour is renewed.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use super::Gate;
use crate::tls::Problem;
use crate::tls::out::identity::Identity;
use crate::tls::out::svid;
use crate::tls::out::svid_origin::SvidOrigin;
use crate::tls::out::trust::Trust;
use crate::workload::Update;

impl Gate {
    /// The gate with the agents' latest certificates and trust, and how many of them are new; and what of
    /// theirs cannot be used, for which the old stays. `None`: nothing is new.
    pub fn renewed(&self) -> (Option<(Gate, usize)>, Vec<Problem>) {
        let mut renewal = Renewal { gate: self, identities: Vec::new(), trusts: Vec::new(), problems: Vec::new() };
        let mut rules = self.rules.clone();
        let mut identities = self.identities.clone();
        let mut bundles = self.bundles.clone();
        let named = identities.iter_mut().map(|(_, identity)| identity);
        for identity in named.chain(rules.iter_mut().filter_map(|live| live.identities.as_mut()).flatten()) {
            renewal.identity(identity);
        }
        let named = bundles.iter_mut().map(|(_, trust)| trust);
        for trust in named.chain(rules.iter_mut().filter_map(|live| live.trust.as_mut())) {
            renewal.trust(trust);
        }
        let Renewal { identities: new, trusts, problems, .. } = renewal;
        let count = new.iter().filter(|(old, new)| old != new).count() + trusts.iter().filter(|(old, new)| old != new).count();
        if count == 0 {
            return (None, problems);
        }
        let upstreams = self.upstreams.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let gate = Gate {
            generation: self.generation + 1,
            unmatched: self.unmatched,
            authority: self.authority.clone(),
            limits: self.limits.clone(),
            files: self.files.clone(),
            identities,
            bundles,
            credentials: self.credentials.clone(),
            durable: self.durable.clone(),
            pending: self.pending,
            kept: self.kept.clone(),
            rules,
            index: self.index.clone(),
            upstreams: Mutex::new(upstreams),
            net: self.net.clone(),
            scripts: self.scripts.clone(),
            default_spec: self.default_spec.clone(),
            plans: RwLock::default(),
            access: self.access.clone(),
            reverse: self.reverse.clone(),
            callers_matter: self.callers_matter,
        };
        (Some((gate, count)), problems)
    }

    /// Does anything in it come from the agent at this socket?
    pub fn asks(&self, socket: &Path) -> bool {
        let of = |origin: Option<&SvidOrigin>| origin.is_some_and(|origin| origin.socket == socket);
        let rules = || self.rules.iter();
        self.identities.iter().any(|(_, identity)| of(identity.origin()))
            || self.bundles.iter().any(|(_, trust)| of(trust.origin()))
            || rules().any(|live| live.identities.iter().flatten().any(|identity| of(identity.origin())))
            || rules().any(|live| live.trust.as_ref().is_some_and(|trust| of(trust.origin())))
    }
}

/// What was made anew, each once however many rules name it.
struct Renewal<'a> {
    gate: &'a Gate,
    identities: Vec<(Arc<Identity>, Arc<Identity>)>,
    trusts: Vec<(Arc<Trust>, Arc<Trust>)>,
    problems: Vec<Problem>,
}

impl Renewal<'_> {
    fn latest(&self, origin: &SvidOrigin) -> Option<Arc<Update>> {
        self.gate.durable.agents.at(&origin.socket).latest()
    }

    fn identity(&mut self, held: &mut Arc<Identity>) {
        let Some((origin, update)) = held.origin().and_then(|origin| Some((origin, self.latest(origin)?))) else { return };
        if let Some((_, new)) = self.identities.iter().find(|(old, _)| old.origin() == held.origin()) {
            *held = new.clone();
            return;
        }
        let new = match svid::identity(&update, origin) {
            Ok(loaded) if loaded.value != **held => Arc::new(loaded.value),
            Ok(_) => held.clone(),
            Err(problem) => {
                self.problems.push(problem);
                held.clone()
            }
        };
        self.identities.push((std::mem::replace(held, new.clone()), new));
    }

    fn trust(&mut self, held: &mut Arc<Trust>) {
        let Some((origin, update)) = held.origin().and_then(|origin| Some((origin, self.latest(origin)?))) else { return };
        if let Some((_, new)) = self.trusts.iter().find(|(old, _)| old.origin() == held.origin()) {
            *held = new.clone();
            return;
        }
        let new = match svid::trust(&update, origin) {
            Ok(trust) if trust != **held => Arc::new(trust),
            Ok(_) => held.clone(),
            Err(problem) => {
                self.problems.push(problem);
                held.clone()
            }
        };
        self.trusts.push((std::mem::replace(held, new.clone()), new));
    }
}
