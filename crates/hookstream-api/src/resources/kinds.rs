//! Accounts, sources, event types, apps, authorizations, and clients of the API.

use std::sync::Arc;

use hookstream_config::change::{CredentialsSpec, EventTypeSpec, SourceSpec};
use hookstream_config::manifest::render::{self, Form};
use hookstream_config::manifest::{
    AccountDocument, AppDocument, AuthorizationDocument, ClientDocument, FromJson,
};
use hookstream_config::resolve::Names;
use hookstream_config::state::State;
use hookstream_config::{Change, Expected, os_random};
use hookstream_core::config::{App, EventType, Identity, Source, Tls};
use hookstream_types::{AccountUid, AppId, AuthorizationId, ClientId};
use hookstream_wire::config::{AccountRecord, AuthorizationRecord, ClientRecord, HashedSecret, Record};
use serde_json::Value;
use uuid::Uuid;

use super::{Facts, Id, Kinds, Planned};
use crate::access::client::new_secret;
use crate::access::{Denied, Scope};
use crate::api::{Api, document_problem};
use crate::events::schema;
use crate::problem::{FieldError, Problem};

/// Reads a document whose fields are all there is to it.
pub(super) fn read<T: FromJson>(document: &Value) -> Result<T, Problem> {
    T::from_json(document).map_err(document_problem)
}

fn uuid(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| Denied::NotFound.into())
}

fn plain(change: Change) -> Planned {
    Planned { change, generated: None }
}

/// Those with greater ids than this: for kinds of which there are few.
fn later<'a, K: Kinds>(
    records: impl Iterator<Item = &'a K::Record> + 'a,
    after: &'a str,
) -> Box<dyn Iterator<Item = &'a K::Record> + 'a> {
    Box::new(records.filter(move |record| *K::facts(record).id > *after))
}

/// Accounts.
#[derive(Debug)]
pub struct Accounts;

impl Kinds for Accounts {
    type Record = AccountRecord;
    const PATH: &'static str = "accounts";
    const WRITE: Scope = Scope::Admin;
    const OPERATORS: bool = true;

    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        let of = move |record: &&AccountRecord| account.is_none_or(|account| account == record.account.uid);
        later::<Self>(state.accounts().filter(of), after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::Account(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.account(Names::new(state).account(id)?)
    }

    fn facts(record: &Self::Record) -> Facts<'_> {
        let AccountRecord { account, .. } = record;
        Facts { id: account.uid.to_string(), account: Some(account.uid), app: None, meta: &account.meta }
    }

    fn show(_: &State, record: &Self::Record) -> Value {
        render::account(record, Form::Api)
    }

    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let document: AccountDocument = read(document)?;
        let uid = AccountUid(match id {
            Id::New(id) => id,
            Id::Existing(id) => uuid(id)?,
        });
        let now = api.look(|state| state.account(uid).map(|record| record.account.verification));
        Ok(plain(Change::PutAccount { uid, account: document.spec(now), expected }))
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteAccount { uid: AccountUid(uuid(id)?), expected })
    }
}

/// Sources.
#[derive(Debug)]
pub struct Sources;

impl Kinds for Sources {
    type Record = Source;
    const PATH: &'static str = "sources";
    const WRITE: Scope = Scope::Admin;
    const OPERATORS: bool = true;

    fn each<'a>(
        state: &'a State,
        _: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        later::<Self>(state.sources(), after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::Source(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.source(id)
    }

    fn facts(source: &Self::Record) -> Facts<'_> {
        Facts { id: source.name.clone(), account: None, app: None, meta: &source.meta }
    }

    fn show(_: &State, source: &Self::Record) -> Value {
        render::source(source, Form::Api)
    }

    fn plan(_: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let source: SourceSpec = read(document)?;
        same_name(id, &source.name)?;
        Ok(plain(Change::PutSource { source, expected }))
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteSource { name: id.to_owned(), expected })
    }
}

/// Event types.
#[derive(Debug)]
pub struct EventTypes;

impl Kinds for EventTypes {
    type Record = EventType;
    const PATH: &'static str = "event-types";
    const WRITE: Scope = Scope::Admin;
    const OPERATORS: bool = true;

    fn each<'a>(
        state: &'a State,
        _: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        later::<Self>(state.event_types(), after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::EventType(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.event_type(id)
    }

    fn facts(event_type: &Self::Record) -> Facts<'_> {
        Facts { id: event_type.name.clone(), account: None, app: None, meta: &event_type.meta }
    }

    fn show(_: &State, event_type: &Self::Record) -> Value {
        render::event_type(event_type, Form::Api)
    }

    fn plan(_: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let event_type: EventTypeSpec = read(document)?;
        same_name(id, &event_type.name)?;
        if let Some(schema) = &event_type.schema {
            let compiled = schema::compile(schema).map_err(|errors| {
                let under =
                    |error: FieldError| FieldError { field: format!("/schema{}", error.field), ..error };
                Problem::invalid(errors.into_iter().map(under).collect())
            })?;
            drop(compiled);
        }
        Ok(plain(Change::PutEventType { event_type, expected }))
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteEventType { name: id.to_owned(), expected })
    }
}

/// What is found by its name keeps it.
fn same_name(id: Id<'_>, name: &str) -> Result<(), Problem> {
    match id {
        Id::Existing(id) if id != name => {
            Err(Problem::invalid_field("/name", format!("must stay `{id}`: others refer to it by name")))
        }
        _ => Ok(()),
    }
}

/// Apps. What an app may do is the platform's to say, so that only operators grant scopes.
#[derive(Debug)]
pub struct Apps;

impl Kinds for Apps {
    type Record = App;
    const PATH: &'static str = "apps";
    const WRITE: Scope = Scope::Admin;
    const OPERATORS: bool = true;

    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        let apps = state.apps().filter(move |app| account.is_none_or(|account| app.account == account));
        later::<Self>(apps, after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::App(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.app(AppId(Uuid::try_parse(id).ok()?))
    }

    fn facts(app: &Self::Record) -> Facts<'_> {
        Facts { id: app.id.to_string(), account: Some(app.account), app: Some(app.id), meta: &app.meta }
    }

    fn show(state: &State, app: &Self::Record) -> Value {
        render::app(state, app, Form::Api)
    }

    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let document: AppDocument = read(document)?;
        let id = AppId(match id {
            Id::New(id) => id,
            Id::Existing(id) => uuid(id)?,
        });
        let app = api.look(|state| Names::new(state).resolve_app(&document)).map_err(document_problem)?;
        Ok(plain(Change::PutApp { id, app, expected }))
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteApp { id: AppId(uuid(id)?), expected })
    }
}

/// Authorizations. They are the account's as a whole, not an app's.
#[derive(Debug)]
pub struct Authorizations;

impl Kinds for Authorizations {
    type Record = AuthorizationRecord;
    const PATH: &'static str = "authorizations";

    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        let of = move |found: &&AuthorizationRecord| account.is_none_or(|account| found.account == account);
        later::<Self>(state.authorizations().filter(of), after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::Authorization(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.authorization(AuthorizationId(Uuid::try_parse(id).ok()?))
    }

    fn facts(found: &Self::Record) -> Facts<'_> {
        Facts { id: found.id.to_string(), account: Some(found.account), app: None, meta: &found.meta }
    }

    fn show(state: &State, found: &Self::Record) -> Value {
        render::authorization(state, found, Form::Api)
    }

    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        let document: AuthorizationDocument = read(document)?;
        let is_new = matches!(id, Id::New(_));
        let id = AuthorizationId(match id {
            Id::New(id) => id,
            Id::Existing(id) => uuid(id)?,
        });
        let spec = api.look(|state| Names::new(state).resolve_authorization(&document));
        let spec = spec.map_err(document_problem)?;
        let missing = match &spec.credentials {
            CredentialsSpec::Header { value: None, .. } => Some("/header/value"),
            CredentialsSpec::Basic { password: None, .. } => Some("/basic/password"),
            CredentialsSpec::Bearer { token: None } => Some("/bearer/token"),
            CredentialsSpec::Oauth2 { client_secret: None, .. } => Some("/oauth2/clientSecret"),
            CredentialsSpec::Mtls { key: None, .. } => Some("/mtls/key"),
            _ => None,
        };
        if let (true, Some(field)) = (is_new, missing) {
            return Err(Problem::invalid_field(field, "is missing"));
        }
        if let Some(error) = credentials_error(api, &spec.credentials) {
            return Err(Problem::invalid(vec![error]));
        }
        let authorization = Box::new(spec);
        Ok(plain(Change::PutAuthorization { id, authorization, expected }))
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteAuthorization { id: AuthorizationId(uuid(id)?), expected })
    }
}

/// What the way out would refuse.
pub(crate) fn credentials_error(api: &Api, credentials: &CredentialsSpec) -> Option<FieldError> {
    match credentials {
        CredentialsSpec::Oauth2 { token_url, .. } => {
            let refusal = api.egress.check(token_url).err()?;
            Some(FieldError::new("/oauth2/tokenUrl", refusal.to_string()))
        }
        // One that is kept has been checked.
        CredentialsSpec::Mtls { certificate, key: Some(key) } => {
            let identity = Identity { certificate: Arc::from(certificate.as_str()), key: key.clone() };
            let tls = Tls::new(None, Some(identity))?;
            let message = api.egress.check_tls(&tls).err()?;
            Some(FieldError::new("/mtls", message))
        }
        _ => None,
    }
}

/// Clients of the API.
#[derive(Debug)]
pub struct Clients;

impl Kinds for Clients {
    type Record = ClientRecord;
    const PATH: &'static str = "clients";
    const READ: Scope = Scope::Admin;
    const WRITE: Scope = Scope::Admin;
    const OPERATORS: bool = true;

    fn each<'a>(
        state: &'a State,
        account: Option<AccountUid>,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Self::Record> + 'a> {
        let of = move |client: &&ClientRecord| account.is_none_or(|of| client.account == Some(of));
        later::<Self>(state.clients().filter(of), after)
    }

    fn of(record: &Record) -> Option<&Self::Record> {
        if let Record::Client(record) = record { Some(record) } else { None }
    }

    fn get<'a>(state: &'a State, id: &str) -> Option<&'a Self::Record> {
        state.client(ClientId(Uuid::try_parse(id).ok()?))
    }

    fn facts(client: &Self::Record) -> Facts<'_> {
        Facts { id: client.id.to_string(), account: client.account, app: client.app, meta: &client.meta }
    }

    fn show(state: &State, client: &Self::Record) -> Value {
        render::client(state, client)
    }

    fn plan(api: &Api, id: Id<'_>, document: &Value, expected: Expected) -> Result<Planned, Problem> {
        // What stands for the secret is not settable here.
        let mut document = document.clone();
        if let Some(fields) = document.as_object_mut() {
            fields.remove("secret");
        }
        let document: ClientDocument = read(&document)?;
        let (id, is_new) = match id {
            Id::New(id) => (ClientId(id), true),
            Id::Existing(id) => (ClientId(uuid(id)?), false),
        };
        let spec = api.look(|state| Names::new(state).resolve_client(&document, state.client(id)));
        let mut client = Box::new(spec.map_err(document_problem)?);
        let mut generated = None;
        if is_new {
            let (secret, hash) = new_secret(&mut os_random);
            client.secrets = Some(vec![HashedSecret { hash: hash.to_string(), until: None }]);
            generated = Some(("clientSecret", secret.expose().to_owned()));
        }
        Ok(Planned { change: Change::PutClient { id, client, expected }, generated })
    }

    fn delete(_: &State, id: &str, expected: Expected) -> Result<Change, Problem> {
        Ok(Change::DeleteClient { id: ClientId(uuid(id)?), expected })
    }
}
