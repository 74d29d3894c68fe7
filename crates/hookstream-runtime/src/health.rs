//! Whether the process is ready, told by its components.
//!
//! A component begins unready ("starting"). The process is ready when it has components and all of them are, save those
//! that it can do without for a while: they are told of, and do not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

type States = BTreeMap<Arc<str>, Component>;

/// What a component says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Why it is not ready, if it isn't.
    pub unready: Option<Arc<str>>,
    /// The process can't do without it.
    pub is_needed: bool,
}

impl Component {
    fn starting(is_needed: bool) -> Self {
        Self { unready: Some(STARTING.into()), is_needed }
    }
}

const STARTING: &str = "starting";
/// The component that [`Health::stopping`] makes.
const SHUTDOWN: &str = "shutdown";

/// All components of the process, or those of one service in it.
#[derive(Clone, Debug)]
pub struct Health {
    states: Arc<watch::Sender<States>>,
    scope: Option<Arc<str>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { states: Arc::new(watch::Sender::new(States::new())), scope: None }
    }
}

/// One component's word.
#[derive(Clone, Debug)]
pub struct HealthHandle {
    states: Arc<watch::Sender<States>>,
    name: Arc<str>,
    is_needed: bool,
}

impl Health {
    /// Adds a component, which is unready until it says otherwise.
    #[must_use]
    pub fn component(&self, name: &str) -> HealthHandle {
        self.add(name, true)
    }

    /// Adds a component that the process can do without: it is ready all the same.
    #[must_use]
    pub fn dispensable(&self, name: &str) -> HealthHandle {
        self.add(name, false)
    }

    fn add(&self, name: &str, is_needed: bool) -> HealthHandle {
        let full: Arc<str> = match &self.scope {
            Some(scope) if **scope != *name => format!("{scope}.{name}").into(),
            _ => name.into(),
        };
        self.states.send_modify(|states| {
            // The scope's name stood for the components that had yet to come.
            if let Some(scope) = &self.scope
                && is_needed
                && states.get(scope) == Some(&Component::starting(true))
            {
                states.remove(scope);
            }
            states.insert(full.clone(), Component::starting(is_needed));
        });
        HealthHandle { states: self.states.clone(), name: full, is_needed }
    }

    /// The health of one service of several: its components are named after it, and until it has one it is itself an
    /// unready component.
    #[must_use]
    pub fn scope(&self, service: &str) -> Self {
        let scope: Arc<str> = service.into();
        self.states.send_modify(|states| {
            states.insert(scope.clone(), Component::starting(true));
        });
        Self { states: self.states.clone(), scope: Some(scope) }
    }

    /// From here on the process is not ready: it takes no new work.
    pub fn stopping(&self) {
        self.states.send_modify(|states| {
            let stopping = Component { unready: Some("stopping".into()), is_needed: true };
            states.insert(SHUTDOWN.into(), stopping);
        });
    }

    /// Whether there are components and all are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        is_ready(&self.states.borrow())
    }

    /// Each component, with its name.
    #[must_use]
    pub fn components(&self) -> Vec<(Arc<str>, Component)> {
        self.states.borrow().iter().map(|(name, component)| (name.clone(), component.clone())).collect()
    }

    /// Returns once the process is ready.
    pub async fn ready(&self) {
        let mut states = self.states.subscribe();
        // The sender lives as long as `self`.
        drop(states.wait_for(is_ready).await);
    }
}

impl HealthHandle {
    /// The component does its work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The component can't do its work, and why: for people, without secrets.
    pub fn unready(&self, reason: impl Into<Arc<str>>) {
        self.set(Some(reason.into()));
    }

    /// Whether the component can't do its work, and why.
    pub fn set(&self, reason: Option<Arc<str>>) {
        self.states.send_if_modified(|states| {
            let component = Component { unready: reason.clone(), is_needed: self.is_needed };
            let before = states.insert(self.name.clone(), component).map(|component| component.unready);
            let changed = before.as_ref() != Some(&reason);
            if changed {
                let component = &*self.name;
                match &reason {
                    None => tracing::info!(component, "ready"),
                    // What was ready and is not any more is news; what is not yet ready is on its way.
                    Some(reason) if before == Some(None) => {
                        tracing::warn!(component, reason = &**reason, "not ready");
                    }
                    Some(reason) => tracing::info!(component, reason = &**reason, "not ready yet"),
                }
            }
            changed
        });
    }
}

fn is_ready(states: &States) -> bool {
    let is_ready = |component: &Component| component.unready.is_none() || !component.is_needed;
    !states.is_empty() && states.values().all(is_ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_are() {
        let health = Health::default();
        assert!(!health.is_ready());
        let (a, b) = (health.component("a"), health.component("b"));
        a.ready();
        assert!(!health.is_ready());
        b.ready();
        assert!(health.is_ready());
        a.unready("lost");
        let needed = |unready: Option<&str>| Component { unready: unready.map(Into::into), is_needed: true };
        assert_eq!(health.components(), [("a".into(), needed(Some("lost"))), ("b".into(), needed(None))]);
        a.ready();
        health.stopping();
        assert!(!health.is_ready());
    }

    #[test]
    fn a_scope_is_unready_until_its_components_are() {
        let health = Health::default();
        let (sender, fanout) = (health.scope("sender"), health.scope("fanout"));
        fanout.component("fanout").ready();
        assert!(!health.is_ready());
        sender.component("config").ready();
        assert!(health.is_ready());
        sender.component("retry").unready("starting");
        let names: Vec<_> = health.components().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["fanout".into(), "sender.config".into(), Arc::from("sender.retry")]);
    }

    #[test]
    fn what_can_be_done_without_does_not_count() {
        let health = Health::default();
        let (needed, spare) = (health.component("needed"), health.dispensable("spare"));
        assert!(!health.is_ready());
        needed.ready();
        spare.unready("its database is away");
        assert!(health.is_ready());
        assert!(health.components().iter().any(|(_, component)| component.unready.is_some()));
    }

    #[tokio::test]
    async fn readiness_can_be_awaited() {
        let health = Health::default();
        let component = health.component("a");
        let ((), ()) = tokio::join!(health.ready(), async {
            tokio::task::yield_now().await;
            component.ready();
        });
        assert!(health.is_ready());
    }
}
