"""Uses a client that was generated from the API's description, and prints what it saw as one JSON document.

Every answer is taken as a class of the generated client: what is described otherwise than it is served fails here.
"""

import json
import sys
import time

from hookstream_client import AuthenticatedClient, Client
from hookstream_client.api.events import send_events
from hookstream_client.api.history import get_execution, list_executions
from hookstream_client.api.tokens import create_token
from hookstream_client.api.webhooks import (
    create_webhook,
    delete_webhook,
    get_webhook,
    list_webhooks,
    pause_webhook,
    replace_webhook,
    test_webhook,
    update_webhook,
)
from hookstream_client.models import (
    Accepted,
    AccessToken,
    CloudEvent,
    ExecutionDetail,
    ExecutionPage,
    PingReport,
    PlainEvent,
    Problem,
    TestEvent,
    TokenError,
    TokenRequest,
    Webhook,
    WebhookPage,
    WebhookPatch,
)

PATIENCE_SECONDS = 60


def a(kind, value):
    """The value, which is to be one of this class."""
    assert isinstance(value, kind), f"no {kind.__name__}: {value!r}"
    return value


def token(base, client_id, client_secret):
    client = Client(base_url=base)
    form = TokenRequest(grant_type="client_credentials", client_id=client_id, client_secret=client_secret)
    wrong = TokenRequest(grant_type="client_credentials", client_id=client_id, client_secret="another")
    refused = a(TokenError, create_token.sync(client=client, body=wrong))
    return a(AccessToken, create_token.sync(client=client, body=form)).access_token, refused.error


def problem(response):
    """What programs and people are told by a problem document."""
    problem = a(Problem, response.parsed)
    assert problem.status == response.status_code and problem.title and problem.detail
    return {"type": problem.type_, "fields": [error.field for error in problem.errors or []]}


def webhooks(client, url):
    new = Webhook(name="mine", event_types=["order.*"], url=url, concurrency=2)
    response = create_webhook.sync_detailed(client=client, body=new, idempotency_key="one")
    assert response.status_code == 201, response.content
    created = a(Webhook, response.parsed)
    again = create_webhook.sync_detailed(client=client, body=new, idempotency_key="one")
    assert a(Webhook, again.parsed).id == created.id
    other = Webhook(name="other", event_types=["*"], url="https://other.example/", state="draft")
    other = a(Webhook, create_webhook.sync(client=client, body=other))

    page = a(WebhookPage, list_webhooks.sync(client=client, limit=1))
    rest = a(WebhookPage, list_webhooks.sync(client=client, limit=1, cursor=page.next_))
    listed = sorted(webhook.name for webhook in page.results + rest.results)
    assert page.more_results and not rest.more_results

    got = a(Webhook, get_webhook.sync(created.id, client=client))
    assert got.secret.sensitive_value_present and got.created_at.tzinfo is not None
    update = WebhookPatch(description="for the warehouse", rate=5)
    response = update_webhook.sync_detailed(created.id, client=client, body=update, if_match=f'"{got.revision}"')
    updated = a(Webhook, response.parsed)
    assert response.headers["etag"] == f'"{updated.revision}"'
    stale = update_webhook.sync_detailed(created.id, client=client, body=update, if_match=f'"{got.revision}"')
    # What was shown is sent back.
    updated.concurrency = 7
    replaced = a(Webhook, replace_webhook.sync(created.id, client=client, body=updated))
    tested = a(PingReport, test_webhook.sync(created.id, client=client, body=TestEvent(event_type="order.paid")))

    bad = create_webhook.sync_detailed(client=client, body=Webhook(name="bad", event_types=[], url="ftp://x"))
    dead = Webhook(name="dead", event_types=["*"], url=url + "/refuses")
    unverified = create_webhook.sync_detailed(client=client, body=dead)
    report = a(PingReport, unverified.parsed.ping)
    paused = pause_webhook.sync_detailed(other.id, client=client)
    nobody = list_webhooks.sync_detailed(client=AuthenticatedClient(base_url=client._base_url, token="wrong"))
    deleted = delete_webhook.sync_detailed(other.id, client=client).status_code
    missing = get_webhook.sync_detailed(other.id, client=client)
    return created.id, {
        "created": [created.name, created.state, created.event_types, created.generated_secret.startswith("whsec_")],
        "listed": listed,
        "updated": [updated.description, updated.rate, updated.revision],
        "replaced": [replaced.concurrency, replaced.description],
        "tested": [tested.success, tested.status],
        "invalid": problem(bad),
        "stale": problem(stale),
        "unverified": [problem(unverified), report.status],
        "conflict": problem(paused),
        "unauthenticated": problem(nobody),
        "deleted": deleted,
        "missing": problem(missing),
    }


def events(client, webhook):
    plain = PlainEvent(type_="order.created", data={"id": 7})
    plain = a(Accepted, send_events.sync(client=client, body=plain, idempotency_key="first"))
    cloud = CloudEvent(specversion="1.0", id="8", source="/shop", type_="order.paid", data={"id": 8})
    cloud = a(Accepted, send_events.sync(client=client, body=cloud))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        page = a(ExecutionPage, list_executions.sync(client=client, webhook=webhook, outcome="delivered"))
        if len(page.results) == 2:
            break
        assert time.monotonic() < deadline, f"no executions: {page}"
        time.sleep(0.05)
    details = [a(ExecutionDetail, get_execution.sync(item.delivery_id, client=client)) for item in page.results]
    assert {detail.event for detail in details} == {plain.events[0].id, cloud.events[0].id}
    return {
        "accepted": [plain.events[0].type_, cloud.events[0].type_],
        "executions": sorted([detail.event_type, detail.outcome, detail.status, detail.attempts] for detail in details),
        "attempts": [
            [attempt.number, attempt.recorded.value, attempt.request.method, attempt.response.status]
            for detail in details
            for attempt in detail.attempt_log
        ],
    }


def main(base, client_id, client_secret, url):
    access_token, refused = token(base, client_id, client_secret)
    client = AuthenticatedClient(base_url=base, token=access_token)
    webhook, seen = webhooks(client, url)
    print(json.dumps({"refused": refused, "webhooks": seen, "events": events(client, webhook)}))


main(*sys.argv[1:])
