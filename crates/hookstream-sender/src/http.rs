//! The way out, for one core: requests run beside the driver on its own runtime.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hookstream_core::exchange::{Exchange, Failure, FailureKind, Request, Timings};
use hookstream_egress::Client;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::deliveries::{Egress, RequestKey};

/// Requests of one core. Lives on that core's `LocalSet`.
pub(crate) struct Http {
    client: Rc<Client>,
    tasks: FxHashMap<RequestKey, AbortHandle>,
    done: Rc<RefCell<VecDeque<(RequestKey, Exchange)>>>,
    wake: Rc<Notify>,
}

impl Http {
    pub(crate) fn new(client: Client, wake: Rc<Notify>) -> Self {
        Self { client: Rc::new(client), tasks: FxHashMap::default(), done: Rc::default(), wake }
    }
}

impl Egress for Http {
    fn start(&mut self, key: RequestKey, request: &Arc<Request>) {
        let (client, done, wake) = (Rc::clone(&self.client), Rc::clone(&self.done), Rc::clone(&self.wake));
        let request = Arc::clone(request);
        let task = tokio::task::spawn_local(async move {
            let exchange = client.exchange(&request).await;
            done.borrow_mut().push_back((key, exchange));
            wake.notify_one();
        });
        self.tasks.insert(key, task.abort_handle());
    }

    fn cut(&mut self, key: RequestKey) {
        if let Some(task) = self.tasks.remove(&key) {
            task.abort();
            let message = "cut: the partition is given to another sender".to_owned();
            let failure = Failure { kind: FailureKind::Timeout, message };
            let exchange = Exchange { result: Err(failure), timings: Timings::default() };
            self.done.borrow_mut().push_back((key, exchange));
        }
    }

    fn forget(&mut self, key: RequestKey) {
        if let Some(task) = self.tasks.remove(&key) {
            task.abort();
        }
    }

    fn next_done(&mut self) -> Option<(RequestKey, Exchange)> {
        let done = self.done.borrow_mut().pop_front()?;
        self.tasks.remove(&done.0);
        Some(done)
    }
}
