"""Storm: 10,000 webhooks for 1,500 messages by 32 clients at once, on each database."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.stress import oracle
from tests.stress.clients import Webhook, converse
from tests.stress.databases import VENDORS, Database
from tests.stress.hosts import Host
from tests.stress.storm import MESSAGES, WEBHOOKS, Storm
from tests.stress.verdicts import unfinished

pytestmark = pytest.mark.stress

CLIENTS = 32


@pytest.mark.parametrize("vendor", VENDORS)
def test_storm_stores_every_event_and_calls_each_handler_once(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor)
    storm = Storm(seed=3)
    with host.gunicorn() as server:
        answered = converse(server.port, storm.conversations, clients=CLIENTS)

    webhooks = storm.webhooks
    expected = oracle.histories(webhooks)
    assert (len(webhooks), len(expected)) == (WEBHOOKS, MESSAGES)
    assert Counter(response.status for _, response in answered) == {200: len(answered)}
    assert oracle.stored_histories(host.database) == {
        identity: Counter(statuses) for identity, statuses in expected.items()
    }
    assert sorted(oracle.stored_statuses(host.database)) == sorted(
        (identity, oracle.highest(statuses)) for identity, statuses in expected.items()
    )
    oracle.check_rules(host)
    check_events(host.database, webhooks, expected)
    check_calls(host, expected, webhooks)
    assert "Traceback" not in host.log


def check_events(
    database: Database, webhooks: list[Webhook], expected: dict[oracle.Identity, set[str]]
) -> None:
    """Each thing said is an event; as many as there are facts are "stored"."""
    outcomes = Counter(
        outcome for [outcome] in database.query("SELECT outcome FROM cellcast_django_webhookevent")
    )
    said = len(list(oracle.elements(webhooks)))
    by_webhook = oracle.stored_opt_outs(database, "source = 'webhook'")
    new = sum(map(len, expected.values())) + len(by_webhook)
    assert oracle.stored_opt_outs(database) == oracle.opted_out(webhooks)
    assert outcomes == {"stored": new, "duplicate": said - new}
    assert unfinished(database) == 0


def check_calls(
    host: Host, expected: dict[oracle.Identity, set[str]], webhooks: list[Webhook]
) -> None:
    """Each handler has heard every fact of the webhooks exactly once."""
    heard = oracle.finished(host.calls())
    facts: set[tuple[Any, ...]] = oracle.stored_facts(host.database)
    assert len(facts) == sum(map(len, expected.values())) + len(oracle.opted_out(webhooks))
    assert heard == Counter((name, fact) for name in oracle.HANDLERS for fact in facts)
