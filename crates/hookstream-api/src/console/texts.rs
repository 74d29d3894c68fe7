//! What the console says, in each of its languages. A text that lacks a language does not compile.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

use super::session::cookie;

/// The cookie that a language was chosen with.
pub(super) const COOKIE: &str = "hookstream-language";

/// A language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lang {
    #[default]
    English,
    Norwegian,
}

impl Lang {
    pub(super) const ALL: [Self; 2] = [Self::English, Self::Norwegian];

    /// BCP 47.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Norwegian => "nb",
        }
    }

    /// Its own name for itself.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Norwegian => "Norsk",
        }
    }

    pub(super) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Norwegian => &NORWEGIAN,
        }
    }

    pub(super) fn named(code: &str) -> Option<Self> {
        // Browsers of Norwegians name any of these.
        match code.split(['-', ';']).next().unwrap_or_default().trim() {
            "en" => Some(Self::English),
            "nb" | "no" | "nn" => Some(Self::Norwegian),
            _ => None,
        }
    }

    /// The one that was chosen, else the first of the browser's that there is.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if let Some(chosen) = cookie(headers, COOKIE).and_then(Self::named) {
            return chosen;
        }
        let asked = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        asked.split(',').find_map(Self::named).unwrap_or_default()
    }
}

macro_rules! texts {
    ($($name:ident: $english:literal, $norwegian:literal;)*) => {
        /// Every text.
        #[derive(Debug)]
        pub(super) struct Texts {
            $(pub(super) $name: &'static str,)*
        }

        static ENGLISH: Texts = Texts { $($name: $english,)* };
        static NORWEGIAN: Texts = Texts { $($name: $norwegian,)* };
    };
}

impl Texts {
    /// What was done, by its name in an address.
    pub(super) fn done(&self, name: &str) -> Option<&'static str>
    where
        Self: 'static,
    {
        Some(match name {
            "saved" => self.saved,
            "created" => self.created,
            "deleted" => self.deleted,
            "published" => self.published,
            "unpublished" => self.unpublished,
            "paused" => self.paused,
            "resumed" => self.resumed,
            "duplicated" => self.duplicated,
            "resent" => self.resent,
            _ => return None,
        })
    }
}

texts! {
    in_flight: "In flight", "Underveis";
    resent: "It is delivered again: a new attempt appears in a moment.", "Den leveres på nytt: et nytt forsøk vises om et øyeblikk.";
    resend: "Deliver again", "Lever på nytt";
    replay: "Replay", "Ny levering";
    replays: "Replays", "Nye leveringer";
    new_replay: "New replay", "Ny levering";
    replay_events: "Events of a time", "Hendelser i et tidsrom";
    replay_deliveries: "Single deliveries", "Enkelte leveringer";
    replay_running: "running", "pågår";
    replay_done: "done", "ferdig";
    replay_cancelled: "cancelled", "avbrutt";
    replay_failed: "failed", "mislyktes";
    replay_hint: "Events are delivered again, or for the first time to a webhook that is new, with the same webhook-id. Live events wait for a few of them at most.", "Hendelser leveres på nytt, eller for første gang til en ny webhook, med samme webhook-id. Nye hendelser venter høyst på noen få av dem.";
    replay_cancel_hint: "What is on its way and has not arrived is then not delivered.", "Det som er på vei og ikke har kommet frem, blir da ikke levert.";
    cancel_replay: "Cancel the replay", "Avbryt leveringen";
    no_replays: "Nothing has been delivered again yet. A new webhook can get the events from before it was there; what was given up can get another chance.", "Ingenting er levert på nytt ennå. En ny webhook kan få hendelsene fra før den fantes; det som ble gitt opp, kan få en ny sjanse.";
    dead_letters: "Dead letters", "Oppgitte leveringer";
    no_dead_letters: "Nothing has been given up.", "Ingenting er gitt opp.";
    redrive_all: "Deliver all of these again…", "Lever alle disse på nytt…";
    redrive_chosen: "Deliver the chosen ones again", "Lever de valgte på nytt";
    choose: "Choose", "Velg";
    choose_some: "choose some of them", "velg noen av dem";
    count_first: "Count first", "Tell først";
    deliver_again: "Deliver", "Lever";
    dry_run: "only counted", "bare telling";
    reason: "Reason", "Årsak";
    looked: "Looked at", "Sett på";
    selected: "Selected", "Valgt";
    sent: "On their way", "På vei";
    webhook_id: "Webhook id", "Webhook-id";
    skip: "Skip to the content", "Hopp til innholdet";
    sign_in: "Sign in", "Logg inn";
    sign_out: "Sign out", "Logg ut";
    sign_in_failed: "There is no such client, or the secret is wrong, or it is disabled.", "Ukjent klient, feil hemmelighet, eller klienten er deaktivert.";
    sign_in_with: "Sign in with", "Logg inn med";
    sign_in_as_client: "With a client's secret, or the operator's token", "Med en klients hemmelighet eller operatørens token";
    sign_in_anew: "This sign-in was begun in another window or too long ago, or can't be trusted. Sign in anew.", "Innloggingen ble påbegynt i et annet vindu eller for lenge siden, eller er ikke til å stole på. Logg inn på nytt.";
    sign_in_denied: "You were not signed in: it was cancelled, or you may not sign in here.", "Du ble ikke logget inn: det ble avbrutt, eller du har ikke lov til å logge inn her.";
    sign_in_away: "The service that signs you in did not answer as it must. Try again in a while; if it goes on, tell the operator.", "Tjenesten som logger deg inn, svarte ikke som den skal. Prøv igjen om en stund, og si fra til operatøren hvis det fortsetter.";
    sign_in_nothing: "We know who you are, but there is nothing here that you may see. Ask the operator for access.", "Vi vet hvem du er, men det er ingenting her som du har tilgang til. Be operatøren om tilgang.";
    client_id: "Client id", "Klient-id";
    client_id_hint: "Leave it empty to sign in with the operator's token.", "La stå tomt for å logge inn med operatørens token.";
    client_secret: "Client secret or token", "Klienthemmelighet eller token";
    portal_over: "This page is not open any more", "Denne siden er ikke åpen lenger";
    portal_again: "Go back to where you came from, and open it from there again.", "Gå tilbake dit du kom fra, og åpne den derfra på nytt.";
    overview: "Overview", "Oversikt";
    failed: "failed attempts", "mislykkede forsøk";
    per_minute: "Deliveries per minute", "Leveringer per minutt";
    durations: "How long attempts take", "Hvor lenge forsøk varer";
    as_numbers: "The same in numbers", "Det samme i tall";
    waiting_by: "Waiting, by when they are tried again", "Venter, etter når de prøves igjen";
    and_more: "And more.", "Og flere.";
    most_failing: "Most failing", "Flest feil";
    slowest: "Slowest", "Tregest";
    nobody: "Nobody.", "Ingen.";
    no_deliveries: "Nothing was delivered in this time. Choose a longer one, or publish a webhook and send an event.", "Ingenting ble levert i dette tidsrommet. Velg et lengre, eller publiser en webhook og send en hendelse.";
    matches_now: "Whom it would concern now", "Hvem den ville gjelde nå";
    matches: "Matches", "Passer";
    yes: "yes", "ja";
    no: "no", "nei";
    rejected: "Rejected lately", "Avvist i det siste";
    none_rejected: "Nothing was rejected.", "Ingenting er avvist.";
    why: "Why", "Hvorfor";
    record: "Record", "Post";
    menu: "Parts of the console", "Deler av konsollen";
    webhooks: "Webhooks", "Webhooker";
    webhook: "Webhook", "Webhook";
    events: "Events", "Hendelser";
    event: "Event", "Hendelse";
    authorizations: "Authorizations", "Autorisasjoner";
    event_types: "Event types", "Hendelsestyper";
    apps: "Apps", "Apper";
    accounts: "Accounts", "Kontoer";
    sources: "Sources", "Kilder";
    clients: "API clients", "API-klienter";
    audit: "Audit", "Endringslogg";
    add: "Add", "Legg til";
    add_webhook: "Add webhook", "Legg til webhook";
    edit: "Edit", "Rediger";
    save: "Save", "Lagre";
    cancel: "Cancel", "Avbryt";
    delete: "Remove", "Fjern";
    delete_sure: "Remove it for good? What waits to be delivered is skipped.", "Fjerne for godt? Det som venter på levering, blir hoppet over.";
    search: "Search", "Søk";
    filter: "Filter", "Filtrer";
    all: "All", "Alle";
    next: "Next page", "Neste side";
    none_found: "Nothing fits these filters.", "Ingenting passer til disse filtrene.";
    none_yet: "There is nothing here yet.", "Her er det ingenting ennå.";
    no_webhooks: "There are no webhooks yet. Add one: name an endpoint and the events that it is to get.", "Det finnes ingen webhooker ennå. Legg til en: oppgi et endepunkt og hendelsene det skal få.";
    no_executions: "Nothing was sent yet. Send a test event, or wait for the first one: it appears here by itself.", "Ingenting er sendt ennå. Send en testhendelse, eller vent på den første: den dukker opp her av seg selv.";
    no_events: "No events were accepted yet. Produce one to a source's topic, or POST one to /api/v1/events.", "Ingen hendelser er mottatt ennå. Send en til en kildes emne, eller POST en til /api/v1/events.";
    no_such_page: "there is no such page in this console", "denne siden finnes ikke i konsollen";
    something_wrong: "This did not work", "Dette gikk ikke";
    fields_wrong: "Some fields need another look.", "Noen felter må ses over.";
    changed_meanwhile: "Somebody else has changed it meanwhile. What you typed is still here; open it anew to see what it is now.", "Noen andre har endret den i mellomtiden. Det du skrev står her fortsatt; åpne den på nytt for å se hvordan den er nå.";
    back: "Back", "Tilbake";
    name: "Name", "Navn";
    description: "Description", "Beskrivelse";
    url: "URI", "URI";
    url_hint: "Fully qualified, with its protocol: https://example.com/hooks", "Fullstendig, med protokoll: https://example.com/hooks";
    state: "State", "Tilstand";
    health: "Health", "Helse";
    health_none: "nothing sent yet", "ingenting sendt ennå";
    health_of: "of the last deliveries succeeded", "av de siste leveringene lyktes";
    last_failure: "Last failure", "Siste feil";
    updated: "Changed", "Endret";
    account: "Account", "Konto";
    entity_hint: "Only events of this account are delivered.", "Bare hendelser for denne kontoen leveres.";
    app: "App", "App";
    source: "Source", "Kilde";
    any: "Any", "Alle";
    none: "None", "Ingen";
    default_one: "Default", "Standard";
    event_type: "Event type", "Hendelsestype";
    events_hint: "Choose from what is registered, or write names and patterns such as order.*, one in a line.", "Velg blant de registrerte, eller skriv navn og mønstre som order.*, ett per linje.";
    events_more: "Other events and patterns", "Andre hendelser og mønstre";
    events_search: "Search events", "Søk i hendelser";
    content: "Content", "Innhold";
    content_type: "Content type", "Innholdstype";
    content_type_hint: "Choose one, or write any other.", "Velg en, eller skriv en annen.";
    method: "Method", "Metode";
    payload: "Payload", "Nyttelast";
    payload_event: "The event: type, timestamp, data", "Hendelsen: type, tidspunkt, data";
    payload_structured: "CloudEvents, structured", "CloudEvents, strukturert";
    payload_binary: "CloudEvents, binary", "CloudEvents, binær";
    payload_profile: "Profile notification", "Profilvarsel";
    payload_template: "A template of your own", "Egen mal";
    template: "Template", "Mal";
    template_hint: "Text with placeholders: [EventType], [EventId], [EventTime], [Account], [Data], or a path into the data such as [Booking.Id]. Empty: requests have no body.", "Tekst med plassholdere: [EventType], [EventId], [EventTime], [Account], [Data], eller en sti inn i dataene som [Booking.Id]. Tom: forespørsler har ingen kropp.";
    preview: "Preview with a sample", "Forhåndsvisning med eksempel";
    preview_choose: "Choose the payload “template” and write one: what becomes of a sample stands here.", "Velg nyttelasten «egen mal» og skriv en: her står hva det blir av et eksempel.";
    headers: "Headers", "Hoder";
    headers_hint: "Sent with every request. Values are secrets: they are not shown again.", "Sendes med hver forespørsel. Verdiene er hemmelige og vises ikke igjen.";
    header_name: "Header name", "Hodenavn";
    header_value: "Value", "Verdi";
    keep_value: "unchanged if left empty", "uendret hvis tom";
    add_row: "Add a header", "Legg til hode";
    security: "Trust", "Tillit";
    secret: "Secret", "Hemmelighet";
    secret_hint: "Left empty, one is made and shown once.", "Hvis tom, lages en som vises én gang.";
    secret_kept: "It has one; leave this empty to keep it.", "Den har en; la stå tomt for å beholde den.";
    regenerate: "Regenerate", "Lag ny";
    secret_header: "Header with the secret itself", "Hode med selve hemmeligheten";
    signature: "Signatures", "Signaturer";
    signature_hex: "Header with the hex HMAC-SHA256 of the body", "Hode med heksadesimal HMAC-SHA256 av kroppen";
    authorization: "Authorization", "Autorisasjon";
    ca: "Certificates of its own authority (PEM)", "Sertifikater fra egen utsteder (PEM)";
    pins: "Public keys that are accepted (SHA-256 in base64)", "Godtatte offentlige nøkler (SHA-256 i base64)";
    advanced: "Advanced", "Avansert";
    retry: "Delays before each attempt", "Ventetid før hvert forsøk";
    retry_hint: "The first included: 0s 5s 5m 30m 2h 5h 10h. Left empty: as usual.", "Medregnet det første: 0s 5s 5m 30m 2h 5h 10h. Tom: som vanlig.";
    give_up_on: "Statuses after which it is not tried again", "Statuskoder det ikke prøves igjen etter";
    filter_field: "Filter", "Filter";
    filter_hint: "Only events that hold this, as an EventBridge event pattern: {\"data\": {\"country\": [\"NO\", \"SE\"], \"total\": [{\"numeric\": [\">\", 100]}]}}. Empty: all of these events.", "Bare hendelser med dette innholdet, som et EventBridge-mønster: {\"data\": {\"country\": [\"NO\", \"SE\"], \"total\": [{\"numeric\": [\">\", 100]}]}}. Tomt: alle disse hendelsene.";
    ttl: "Worth delivering for", "Verdt å levere i";
    ttl_hint: "After this time an event is skipped instead of sent: 1h, 2d. Empty: as long as it is tried.", "Etter denne tiden hoppes en hendelse over i stedet for å sendes: 1h, 2d. Tom: så lenge den prøves.";
    timeout: "Timeout", "Tidsgrense";
    timeout_hint: "Of a whole request: 15s.", "For en hel forespørsel: 15s.";
    rate: "Rate", "Takt";
    rate_hint: "Attempts per second, or such as 30/m.", "Forsøk per sekund, eller som 30/m.";
    concurrency: "Requests at a time", "Samtidige forespørsler";
    log_only_errors: "Log only errors", "Logg bare feil";
    publish: "Publish", "Publiser";
    unpublish: "Unpublish", "Avpubliser";
    pause: "Pause", "Pause";
    resume: "Resume", "Fortsett";
    duplicate: "Duplicate", "Dupliser";
    ping: "Ping", "Ping";
    send_test: "Send test event", "Send testhendelse";
    rotate: "Rotate secret", "Bytt hemmelighet";
    rotate_sure: "Make a new secret? The old one counts beside it for a while.", "Lage ny hemmelighet? Den gamle gjelder ved siden av en stund.";
    actions: "Actions", "Handlinger";
    answered: "The endpoint answered", "Endepunktet svarte";
    not_answered: "The endpoint did not answer as it must", "Endepunktet svarte ikke som det skal";
    saved: "Saved.", "Lagret.";
    created: "Created.", "Opprettet.";
    deleted: "Removed.", "Fjernet.";
    published: "Published: events are delivered from now on.", "Publisert: hendelser leveres fra nå av.";
    unpublished: "Unpublished: nothing is delivered any more.", "Avpublisert: ingenting leveres lenger.";
    paused: "Paused: deliveries wait.", "Satt på pause: leveringer venter.";
    resumed: "Resumed.", "Fortsatt.";
    duplicated: "Duplicated as a draft.", "Duplisert som utkast.";
    secret_once: "This is shown once: copy it now.", "Dette vises én gang: kopier det nå.";
    copy: "Copy", "Kopier";
    copied: "Copied", "Kopiert";
    go_on: "Go on to the list", "Videre til listen";
    history: "Run history", "Kjørehistorikk";
    live: "Live: what happens appears here by itself.", "Direkte: det som skjer, dukker opp her av seg selv.";
    outcome: "Outcome", "Utfall";
    outcome_waiting: "waiting", "venter";
    outcome_delivered: "delivered", "levert";
    outcome_dead: "dead", "oppgitt";
    outcome_skipped: "skipped", "hoppet over";
    status: "Status", "Status";
    attempts: "Attempts", "Forsøk";
    attempt: "Attempt", "Forsøk";
    begun: "Begun", "Startet";
    next_attempt: "Next attempt", "Neste forsøk";
    from: "From", "Fra";
    to: "To", "Til";
    event_id: "Event id", "Hendelses-id";
    delivery: "Delivery", "Levering";
    deliveries: "Deliveries", "Leveringer";
    request: "Request", "Forespørsel";
    response: "Response", "Svar";
    body: "Body", "Kropp";
    no_body: "No body.", "Ingen kropp.";
    body_cut: "It was longer: this is its beginning.", "Den var lengre: dette er begynnelsen.";
    body_binary: "Not text: shown in base64.", "Ikke tekst: vist i base64.";
    timings: "Timings", "Tider";
    total: "total", "totalt";
    no_answer: "There was no answer.", "Det kom ikke noe svar.";
    nothing_sent: "Nothing was sent.", "Ingenting ble sendt.";
    record_gone: "The record is too old, and was deleted.", "Posten er for gammel og er slettet.";
    record_late: "The record was not read in time: load the page again.", "Posten ble ikke lest i tide: last siden på nytt.";
    only_errors: "Bodies of successes are not kept: the webhook logs only errors.", "Innhold ved suksess lagres ikke: webhooken logger bare feil.";
    as_curl: "Copy as curl", "Kopier som curl";
    subject: "Subject", "Emne";
    maker_id: "Id at its maker", "Id hos avsenderen";
    accepted: "Accepted", "Mottatt";
    happened: "Happened", "Skjedde";
    data: "Data", "Data";
    not_matched: "No webhook has got it.", "Ingen webhook har fått den.";
    who: "Who", "Hvem";
    what: "What", "Hva";
    when: "When", "Når";
    created_by: "created", "opprettet";
    updated_by: "changed", "endret";
    deleted_by: "removed", "fjernet";
    kind: "Type", "Type";
    endpoint: "Endpoint", "Endepunkt";
    endpoint_hint: "What the URIs of the webhooks that use it begin with: it is sent nowhere else.", "Det URI-ene til webhookene som bruker den, begynner med: den sendes ingen andre steder.";
    user: "User name", "Brukernavn";
    password: "Password", "Passord";
    token: "Token", "Token";
    token_url: "Token URL", "Token-URL";
    scopes: "Scopes", "Tilganger";
    scopes_hint: "Separated by commas or lines.", "Atskilt med komma eller linjeskift.";
    visibility: "Visibility", "Synlighet";
    certificate: "Certificate (PEM)", "Sertifikat (PEM)";
    key: "Private key (PEM)", "Privat nøkkel (PEM)";
    schema: "JSON Schema of the data", "JSON Schema for dataene";
    sample: "Sample of the data", "Eksempel på dataene";
    deprecated: "Deprecated", "Utfaset";
    delivery_mode: "Delivery", "Levering";
    topics: "Topics", "Emner";
    topics_hint: "Names, or patterns ^…$; separated by commas or lines.", "Navn eller mønstre ^…$; atskilt med komma eller linjeskift.";
    format: "Format", "Format";
    format_hint: "cloudevents, debezium, auto, or JSON with type and mapping.", "cloudevents, debezium, auto, eller JSON med type og mapping.";
    reply_topics: "Topics of answers", "Temaer for svar";
    reply_topics_hint: "Only of a sync source: where the answers of sync webhooks may go, one a line; names, or patterns ^…$.", "Bare for en sync-kilde: hvor svar fra sync-webhooks kan sendes, én per linje; navn eller mønstre ^…$.";
    strict: "Only registered event types", "Bare registrerte hendelsestyper";
    verification: "Verification of endpoints", "Verifisering av endepunkter";
    access_type: "Access type", "Tilgangstype";
    disabled: "Disabled", "Deaktivert";
    listeners: "Who listens", "Hvem lytter";
    required: "required", "påkrevd";
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::COOKIE as COOKIES;

    use super::*;

    #[test]
    fn a_language_is_the_chosen_one_else_the_browsers() {
        let of = |asked: &'static str, cookie: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(asked));
            headers.insert(COOKIES, HeaderValue::from_static(cookie));
            Lang::of(&headers).code()
        };
        assert_eq!(of("nb-NO,nb;q=0.9,en;q=0.8", ""), "nb");
        assert_eq!(of("de,en-US;q=0.5,nb;q=0.3", ""), "en");
        assert_eq!(of("de", ""), "en");
        assert_eq!(of("nb", "hookstream-language=en"), "en");
        assert_eq!(of("", "hookstream-language=x"), "en");
    }
}
