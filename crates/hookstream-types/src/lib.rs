//! The nouns everything else is made of: ids, names, times, limits. No IO.

mod chain;
mod ids;
pub mod limits;
mod secret;
mod time;

pub use chain::Chain;
pub use ids::{
    AccountUid, AppId, AuthorizationId, ClientId, DeliveryId, EventId, Generation, Offset, OwnerId,
    Partition, ReplayId, WebhookId, partition_for,
};
pub use secret::{Secret, SecretString};
pub use time::{Mono, Now, UnixMillis};
