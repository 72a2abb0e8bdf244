//! Follows the workload agents that the configuration names, and puts what they send in force.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Reloader;
use crate::tls::formats::inspect::day;
use crate::workload::{Agent, Event, Follower};

/// One task for each agent, as long as the configuration names it.
pub async fn run(reloader: Arc<Reloader>) {
    let agents = reloader.context.gate().durable().agents.clone();
    let mut followed: HashSet<PathBuf> = HashSet::new();
    let mut tasks = JoinSet::new();
    loop {
        for agent in agents.all() {
            if followed.insert(agent.socket().to_owned()) {
                tasks.spawn(follow(agent, reloader.clone()));
            }
        }
        tokio::select! {
            () = agents.more() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(socket) = ended {
                    agents.forget(&socket);
                    followed.remove(&socket);
                    // A reload may have brought it back at this moment.
                    if reloader.context.gate().asks(&socket) {
                        agents.at(&socket);
                    }
                }
            }
            () = reloader.context.stopping.cancelled() => return,
        }
    }
}

async fn follow(agent: Arc<Agent>, reloader: Arc<Reloader>) -> PathBuf {
    let mut follower = Follower::new(agent.clone());
    loop {
        let event = follower.next().await;
        if !reloader.context.gate().asks(agent.socket()) {
            return agent.socket().to_owned();
        }
        let socket = agent.socket().display();
        match event {
            Event::Renewed => reloader.renew().await,
            Event::Gone(error) => {
                let until = end(&reloader, agent.socket());
                tracing::warn!(until, help = error.help, "{error}; what it sent last is used until it ends");
            }
            Event::Back => {
                tracing::info!(%socket, "the SPIFFE agent is back");
                reloader.renew().await;
            }
        }
    }
}

/// The day on which the first certificate from this agent ends.
fn end(reloader: &Reloader, socket: &Path) -> String {
    let gate = reloader.context.gate();
    let in_rules = gate.rules().iter().flat_map(|live| live.identities.iter().flatten());
    let all = gate.identities.iter().map(|(_, identity)| identity).chain(in_rules);
    let own = all.filter(|identity| identity.origin().is_some_and(|origin| origin.socket == socket));
    own.map(|identity| identity.not_after()).min().map_or_else(|| "-".to_owned(), day)
}
