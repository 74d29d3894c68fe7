//! Calls that are made at once or not at all: as many at a time and as often as a webhook allows.
//!
//! Deliveries wait in [lanes](crate::lane); who calls a sync webhook waits for its answer, so a call that finds no room
//! is turned away. Each replica of the API counts for itself: a webhook's limits are divided among them.

use std::time::Duration;

use hookstream_types::{Mono, WebhookId};
use rustc_hash::FxHashMap;

use crate::lane::Allowance;

/// What may be called at once after a pause, of a webhook with a rate.
const BURST: Duration = Duration::from_millis(100);
/// Webhooks that are remembered although none is called; those of them that have no rate to be remembered go.
const MAX_IDLE: usize = 1_000;

/// Why a call is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many calls are under way as the webhook takes at a time.
    Concurrency,
    /// It was called as often as it takes.
    Rate,
}

/// The calls of each webhook.
#[derive(Clone, Debug, Default)]
pub struct Turnstiles(FxHashMap<WebhookId, Turnstile>);

#[derive(Clone, Copy, Debug, Default)]
struct Turnstile {
    under_way: u32,
    /// When the next call is due by the rate (generic cell rate algorithm).
    next: Mono,
}

impl Allowance {
    /// The part of one of so many that share it. Each may do something.
    #[must_use]
    pub fn shared_by(self, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        Self {
            concurrency: self.concurrency.div_ceil(replicas).max(1),
            rate: self.rate.map(|rate| rate / f64::from(replicas)),
        }
    }
}

impl Turnstiles {
    /// Lets a call pass, if the webhook allows one more. [`Turnstiles::leave`] ends it.
    ///
    /// # Errors
    /// Why it may not.
    pub fn enter(&mut self, webhook: WebhookId, allowance: Allowance, now: Mono) -> Result<(), Full> {
        if self.0.len() >= MAX_IDLE && !self.0.contains_key(&webhook) {
            self.0.retain(|_, turnstile| turnstile.under_way > 0 || turnstile.next > now);
        }
        let turnstile = self.0.entry(webhook).or_default();
        if turnstile.under_way >= allowance.concurrency {
            return Err(Full::Concurrency);
        }
        if let Some(rate) = allowance.rate.filter(|rate| *rate > 0.0) {
            if turnstile.next > now + BURST {
                return Err(Full::Rate);
            }
            let apart = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
            turnstile.next = turnstile.next.max(now) + apart;
        }
        turnstile.under_way += 1;
        Ok(())
    }

    /// A call is over.
    pub fn leave(&mut self, webhook: WebhookId) {
        if let Some(turnstile) = self.0.get_mut(&webhook) {
            turnstile.under_way = turnstile.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SHOP: WebhookId = WebhookId(Uuid::from_u128(1));

    fn after(millis: u64) -> Mono {
        Mono(millis * 1_000)
    }

    #[test]
    fn so_many_at_a_time() {
        let two = Allowance { concurrency: 2, rate: None };
        let mut turnstiles = Turnstiles::default();
        assert_eq!(turnstiles.enter(SHOP, two, after(0)), Ok(()));
        assert_eq!(turnstiles.enter(SHOP, two, after(0)), Ok(()));
        assert_eq!(turnstiles.enter(SHOP, two, after(0)), Err(Full::Concurrency));
        assert_eq!(turnstiles.enter(WebhookId(Uuid::from_u128(2)), two, after(0)), Ok(()));
        turnstiles.leave(SHOP);
        assert_eq!(turnstiles.enter(SHOP, two, after(0)), Ok(()));
    }

    #[test]
    fn so_often() {
        let ten = Allowance { concurrency: 100, rate: Some(10.0) };
        let mut turnstiles = Turnstiles::default();
        let passed = (0..1_000).filter(|ms| turnstiles.enter(SHOP, ten, after(*ms)).is_ok()).count();
        assert_eq!(passed, 11, "one more at first");
        let slow = Allowance { concurrency: 100, rate: Some(1e-9) };
        assert_eq!(turnstiles.enter(SHOP, slow, after(60_000)), Ok(()));
        assert_eq!(turnstiles.enter(SHOP, slow, after(120_000)), Err(Full::Rate));
    }

    #[test]
    fn replicas_share() {
        let allowance = Allowance { concurrency: 5, rate: Some(10.0) };
        assert_eq!(allowance.shared_by(2), Allowance { concurrency: 3, rate: Some(5.0) });
        assert_eq!(allowance.shared_by(100).concurrency, 1);
        assert_eq!(allowance.shared_by(0), allowance);
    }

    #[test]
    fn what_is_idle_is_forgotten() {
        let one = Allowance { concurrency: 1, rate: None };
        let mut turnstiles = Turnstiles::default();
        for n in 0..10_000 {
            let webhook = WebhookId(Uuid::from_u128(n));
            assert_eq!(turnstiles.enter(webhook, one, after(0)), Ok(()));
            if n > 0 {
                turnstiles.leave(webhook);
            }
        }
        assert!(turnstiles.0.len() <= MAX_IDLE);
        assert_eq!(turnstiles.enter(WebhookId(Uuid::from_u128(0)), one, after(0)), Err(Full::Concurrency));
    }
}
