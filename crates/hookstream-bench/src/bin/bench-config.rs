//! The view of the configuration: what it costs to load it, and to show one change among many webhooks. No Kafka.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use hookstream_bench::figures::quantile;
use hookstream_config::{Keyring, State, os_random};
use hookstream_core::config::{Account, Meta, Verification, Webhook, WebhookState};
use hookstream_types::{AccountUid, Offset, UnixMillis, WebhookId};
use hookstream_wire::config::{AccountRecord, Record, SealedSecret, WebhookRecord};
use uuid::Uuid;

/// The view of the configuration: one change among many webhooks.
#[derive(Debug, Parser)]
struct Args {
    /// Webhooks
    #[arg(long, default_value_t = 100_000)]
    webhooks: u128,
    /// Accounts that share them
    #[arg(long, default_value_t = 1_000)]
    accounts: u128,
    /// Changes that are timed
    #[arg(long, default_value_t = 200)]
    changes: u128,
}

/// What a change may cost.
const GOAL: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.accounts > 0 && args.webhooks > 0, "there must be an account and a webhook");
    let keyring = Arc::new(Keyring::blind(&mut os_random));
    let mut state = State::new(Arc::clone(&keyring));
    let mut offset = Offset(0);
    let mut apply = |state: &mut State, record: &Record| {
        state.apply(offset, Some(record.key().to_string().as_bytes()), Some(&record.encode()));
        offset = offset.next();
    };
    let started = Instant::now();
    for n in 0..args.accounts {
        apply(&mut state, &account(&keyring, n));
    }
    for n in 0..args.webhooks {
        let record = webhook(&state, n, n % args.accounts, 1)?;
        apply(&mut state, &record);
    }
    println!(
        "{} webhooks of {} accounts are sealed and read in {:.0?}",
        args.webhooks,
        args.accounts,
        started.elapsed()
    );
    let started = Instant::now();
    let mut view = state.view();
    println!("the first view takes {:.1?}", started.elapsed());

    let mut times = Vec::new();
    for change in 0..args.changes {
        let n = change * 7919 % args.webhooks;
        let record = webhook(&state, n, n % args.accounts, 2)?;
        let started = Instant::now();
        apply(&mut state, &record);
        // Freeing the view that was there before counts too.
        view = state.view();
        times.push(started.elapsed());
    }
    ensure!(view.webhooks.len() as u128 == args.webhooks, "a webhook is missing");
    times.sort_unstable();
    let (median, worst) = (quantile(&times, 0.5), times.last().copied().context("no change was timed")?);
    println!("a change is shown in {median:.2?} (median), {worst:.2?} (worst)");
    ensure!(median <= GOAL, "more than the {GOAL:?} that it may take");
    Ok(())
}

fn meta(revision: u64) -> Meta {
    let at = UnixMillis(1_700_000_000_000);
    Meta { revision, created_at: at, updated_at: at, actor: "bench".to_owned(), request: None }
}

fn account(keyring: &Keyring, n: u128) -> Record {
    let uid = AccountUid(Uuid::from_u128(n));
    let account =
        Account { uid, name: format!("account-{n}"), verification: Verification::None, meta: meta(1) };
    Record::Account(AccountRecord { account, data_key: keyring.new_data_key(uid, &mut os_random) })
}

fn webhook(state: &State, n: u128, account: u128, revision: u64) -> anyhow::Result<Record> {
    let id = WebhookId(Uuid::from_u128(n << 64 | n));
    let account = AccountUid(Uuid::from_u128(account));
    let data_key = state.data_key(account)?;
    let key = hookstream_wire::config::Key::Webhook(id);
    let place = hookstream_config::envelope::Place { account, record: &key, field: "secret" };
    let text = data_key.seal(&place, b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &mut os_random);
    let usual = Webhook::default();
    Ok(Record::Webhook(Arc::new(WebhookRecord {
        id,
        account,
        name: format!("webhook-{n}"),
        description: None,
        app: None,
        state: WebhookState::Published,
        disabled_reason: None,
        source: None,
        event_types: vec![format!("order.e{}", n % 50), "invoice.*".to_owned()],
        url: format!("https://example.com/{n}"),
        method: usual.method,
        content_type: usual.content_type,
        payload: usual.payload,
        headers: Vec::new(),
        secrets: vec![SealedSecret { text, until: None }],
        signatures: usual.signatures,
        secret_header: None,
        authorization: None,
        trust: usual.trust,
        filter: None,
        retry: usual.retry,
        give_up_on: Vec::new(),
        timeout_ms: 15_000,
        rate: None,
        agreed: None,
        concurrency: usual.concurrency,
        ttl_ms: None,
        log_only_errors: false,
        meta: meta(revision),
    })))
}
