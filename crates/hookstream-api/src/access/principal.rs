//! Who makes a request, and what is theirs.

use hookstream_types::{AccountUid, AppId};

use super::scope::{Scope, Scopes};

/// What a principal sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Every account: operators.
    Everything,
    Account(AccountUid),
    App {
        account: AccountUid,
        app: AppId,
    },
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who it is, for the audit and for `Idempotency-Key`s: unique among all that can authenticate.
    pub client: String,
    pub scopes: Scopes,
    pub bound: Bound,
}

/// Why a principal may not do what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this needs the scope `{0}`: ask for a token that has it")]
    Scope(Scope),
    /// Not theirs, or not there: which of both, nobody is told.
    #[error("there is no such thing, or it is not yours")]
    NotFound,
    #[error("name the account: this client is bound to none")]
    AccountNeeded,
}

impl Bound {
    /// The account; none if it is bound to none.
    #[must_use]
    pub fn account(self) -> Option<AccountUid> {
        match self {
            Self::Everything => None,
            Self::Account(account) | Self::App { account, .. } => Some(account),
        }
    }
}

impl Principal {
    /// Who has the operator's own token.
    #[must_use]
    pub fn admin() -> Self {
        Self { client: "admin".to_owned(), scopes: Scopes::all(), bound: Bound::Everything }
    }

    /// # Errors
    /// [`Denied::Scope`] if it does not hold `scope`.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.scopes.allow(scope) { Ok(()) } else { Err(Denied::Scope(scope)) }
    }

    /// The account that a request is about, where it may name one.
    ///
    /// The tenant comes from the token. A request that names another than the principal's own finds nothing.
    ///
    /// # Errors
    /// [`Denied::NotFound`] if it is not the principal's, [`Denied::AccountNeeded`] if neither names one.
    pub fn account(&self, named: Option<AccountUid>) -> Result<AccountUid, Denied> {
        match (self.bound.account(), named) {
            (Some(own), Some(named)) if own != named => Err(Denied::NotFound),
            (Some(own), _) => Ok(own),
            (None, Some(named)) => Ok(named),
            (None, None) => Err(Denied::AccountNeeded),
        }
    }

    /// The account that a list is of; none: of all of them, for who is bound to none and names none.
    ///
    /// # Errors
    /// [`Denied::NotFound`] if it is not the principal's.
    pub fn account_if_any(&self, named: Option<AccountUid>) -> Result<Option<AccountUid>, Denied> {
        match self.account(named) {
            Ok(account) => Ok(Some(account)),
            Err(Denied::AccountNeeded) => Ok(None),
            Err(denied) => Err(denied),
        }
    }

    /// Checks that a thing of `account`, and of `app` if it belongs to one, is the principal's to see.
    ///
    /// What belongs to the account as a whole is not an app's.
    ///
    /// # Errors
    /// [`Denied::NotFound`] if it isn't.
    pub fn owns(&self, account: AccountUid, app: Option<AppId>) -> Result<(), Denied> {
        let owns = match self.bound {
            Bound::Everything => true,
            Bound::Account(own) => own == account,
            Bound::App { account: own, app: own_app } => own == account && Some(own_app) == app,
        };
        if owns { Ok(()) } else { Err(Denied::NotFound) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const A: AccountUid = AccountUid(Uuid::from_u128(0xa));
    const B: AccountUid = AccountUid(Uuid::from_u128(0xb));
    const ONE: AppId = AppId(Uuid::from_u128(1));
    const TWO: AppId = AppId(Uuid::from_u128(2));

    fn principal(bound: Bound) -> Principal {
        Principal { client: "c".into(), scopes: Scopes::all(), bound }
    }

    #[test]
    fn the_tenant_comes_from_the_token() {
        let app = Bound::App { account: A, app: ONE };
        let table = [
            (Bound::Account(A), None, Ok(A)),
            (Bound::Account(A), Some(A), Ok(A)),
            (Bound::Account(A), Some(B), Err(Denied::NotFound)),
            (app, None, Ok(A)),
            (app, Some(B), Err(Denied::NotFound)),
            (Bound::Everything, Some(B), Ok(B)),
            (Bound::Everything, None, Err(Denied::AccountNeeded)),
        ];
        for (bound, named, expected) in table {
            // Even with every scope there is.
            assert_eq!(principal(bound).account(named), expected, "{bound:?} {named:?}");
        }
    }

    #[test]
    fn only_ones_own_is_found() {
        let app = Bound::App { account: A, app: ONE };
        let table = [
            (Bound::Everything, A, None, true),
            (Bound::Account(A), A, None, true),
            (Bound::Account(A), A, Some(TWO), true),
            (Bound::Account(A), B, None, false),
            (Bound::Account(A), B, Some(ONE), false),
            (app, A, Some(ONE), true),
            (app, A, Some(TWO), false),
            (app, A, None, false),
            // The same app id under another account.
            (app, B, Some(ONE), false),
        ];
        for (bound, account, of_app, found) in table {
            let expected = if found { Ok(()) } else { Err(Denied::NotFound) };
            assert_eq!(principal(bound).owns(account, of_app), expected, "{bound:?} {account} {of_app:?}");
        }
    }

    #[test]
    fn scopes_are_required() {
        let mut reader = principal(Bound::Account(A));
        reader.scopes = "webhooks:read".parse().unwrap();
        assert_eq!(reader.require(Scope::WebhooksRead), Ok(()));
        for scope in [Scope::WebhooksWrite, Scope::EventsWrite, Scope::HistoryRead, Scope::Admin] {
            assert_eq!(reader.require(scope), Err(Denied::Scope(scope)));
        }
    }
}
