//! What gatepass itself shows to clients: the certificates of listeners, and the interception CA.

use std::sync::Arc;

use super::{Builder, tell_error, tell_warning};
use crate::config::{Action, Listener, Mode};
use crate::gate::{Gate, LiveRule};
use crate::pattern::HostPattern;
use crate::settings::Place;
use crate::tls::intercept::authority::Authority;
use crate::tls::intercept::constraints::Constraints;
use crate::tls::settings::CaSource;
use crate::tls::{self, Problem};

impl Builder<'_> {
    pub fn listener(&mut self, listener: &Listener) {
        let Some(settings) = &listener.tls else { return };
        self.files.extend(settings.files());
        let same_files = |old: &&Arc<tls::intercept::server::Listening>| settings.files().eq(old.files.iter().cloned());
        let name = (listener.address.clone(), listener.nth);
        let old = self.old.listeners.get(&name).filter(same_files).cloned();
        let loaded = tls::intercept::server::listening(settings, matches!(listener.mode, Mode::Reverse(_)), self.bound)
            .map_err(|problem| vec![problem]);
        let loaded = self.settle(old.clone(), loaded);
        // The same certificate keeps the sessions of its callers.
        let loaded = loaded.map(|new| old.filter(|old| **old == *new).unwrap_or(new));
        self.kept.listeners.extend(loaded.map(|listening| (name, listening)));
    }

    pub fn authority(
        &mut self,
        source: CaSource,
        leaves: usize,
        rules: &[LiveRule],
        previous: Option<&Gate>,
    ) -> Option<Arc<Authority>> {
        // A CA in memory is made once.
        if let (CaSource::Memory, Some(gate)) = (&source, previous) {
            return Some(gate.authority.clone());
        }
        let wanted = match constraints(&source, rules) {
            Ok(wanted) => wanted,
            Err(problem) => {
                tell_error(self.report, problem);
                return None;
            }
        };
        let old = previous.map(|gate| gate.authority.clone());
        let authority = match Authority::open(&source, leaves, wanted.as_ref()) {
            // The same CA keeps its leaves and its session tickets.
            Ok(opened) => Some(old.filter(|old| **old == opened).unwrap_or_else(|| Arc::new(opened))),
            Err(problem) => self.or_old(old.filter(|_| self.old.ca.as_ref() == Some(&source)), vec![problem]),
        };
        if let Some(authority) = &authority {
            self.files.extend(authority.files());
            authority.warnings().iter().cloned().for_each(|problem| tell_warning(self.report, problem));
            let mend = "renew it: `gatepass ca renew`, or new files in the place of your own";
            let ending = tls::out::expiry::warning(authority.details(), None, "the interception CA", mend);
            ending.into_iter().for_each(|problem| tell_warning(self.report, problem));
            if let (CaSource::Dir { constrain: Some(place), .. }, Some(wanted)) = (&source, &wanted) {
                self.limits(authority, wanted, *place);
            }
        }
        self.kept.ca = Some(source);
        authority
    }

    /// A CA is limited when it is made; rules change.
    fn limits(&mut self, authority: &Authority, wanted: &Constraints, place: Place) {
        let message = match authority.constraints() {
            Some(has) if has.covers(wanted) => return,
            Some(has) => format!("the interception CA is limited to {}, which is not all that the rules name", has.text()),
            None => "the interception CA was made without limits".to_owned(),
        };
        self.report
            .warning("ca-limits", place, message)
            .help("`gatepass ca renew` makes it anew for the hosts that the rules name now; clients must then trust it anew");
    }
}

/// The limits that the interception CA should have: the hosts of all rules that are intercepted.
pub fn constraints(source: &CaSource, rules: &[LiveRule]) -> Result<Option<Constraints>, Problem> {
    let CaSource::Dir { constrain: Some(place), .. } = source else { return Ok(None) };
    let intercepted = rules.iter().filter(|live| !matches!(live.rule.action, Some(Action::Deny | Action::Tunnel)));
    // And this machine: TLS to gatepass itself is with a leaf of the CA, too.
    let here = ["localhost", "127.0.0.1", "::1"].iter().filter_map(|text| HostPattern::parse(text).ok()).flatten();
    let here: Vec<HostPattern> = here.collect();
    let constraints = Constraints::of(intercepted.flat_map(|live| &live.rule.hosts).chain(&here)).map_err(|pattern| {
        Problem::new("ca-limits", *place, format!("no CA can be limited to the rule host `{pattern}`"))
            .help("name its hosts or their domain, or take `constrain` away")
    })?;
    Ok(Some(constraints))
}
