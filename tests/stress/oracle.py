"""What must be in the database and what the handlers must have heard, computed from the webhooks.

It is written from the promises alone, and shares no line with the app, but for ``check_rules``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from tests.stress.clients import Webhook
from tests.stress.databases import Database
from tests.stress.hosts import Call, Host

RANK = {
    "scheduled": 1,
    "pending": 2,
    "queued": 3,
    "dispatched": 4,
    "sent": 5,
    "received": 6,
    "dead": 8,
    "failed": 9,
    "aborted": 10,
    "canceled": 11,
    "expired": 12,
    "rejected": 13,
    "blocked": 14,
    "delivered": 15,
}
RANK_OF_THE_UNKNOWN = 7
HANDLERS = ("first", "second")

Identity = tuple[str, ...]
"""("outbound", id) or ("inbound", id, sender, receiver, text)."""

Fact = tuple[str, ...]


def check_rules(host: Host) -> None:
    """No row of the host's breaks one of the app's own rules: the command finds none."""
    host.manage("cellcast_status", "--verify")


def elements(webhooks: Iterable[Webhook]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each thing that the webhooks say, with the path that it came to."""
    for webhook in webhooks:
        for element in webhook.payload if isinstance(webhook.payload, list) else [webhook.payload]:
            yield webhook.path, element


def histories(webhooks: Iterable[Webhook]) -> dict[Identity, set[str]]:
    """Return each message and the statuses of its history. Replies have a text, reports none."""
    result: dict[Identity, set[str]] = defaultdict(set)
    for _, each in elements(webhooks):
        if "message" in each:
            parts = (each["_id"], each["sender"], each["receiver"], each["message"])
            result["inbound", *parts].add(each["status"])
        elif each["type"] != "optout":
            result["outbound", each["_id"]].add(each["status"])
    return dict(result)


def opted_out(webhooks: Iterable[Webhook]) -> set[str]:
    """Return the contacts who have opted out: by webhook, or by a reply that is a stop word."""
    by_webhook = {each["contact"] for _, each in elements(webhooks) if each["type"] == "optout"}
    by_reply = {each["sender"] for _, each in elements(webhooks) if each.get("message") == "STOP"}
    return by_webhook | by_reply


def stored_opt_outs(database: Database, where: str = "ended_at IS NULL") -> set[str]:
    """Return the contacts of the opt-outs that the database holds."""
    rows = database.query(f"SELECT contact FROM cellcast_django_optout WHERE {where}")  # noqa: S608
    return {contact for (contact,) in rows}


def highest(statuses: Iterable[str]) -> str:
    """Return the status that a message has in the end."""
    return max(statuses, key=lambda status: (RANK.get(status, RANK_OF_THE_UNKNOWN), status))


def stored_histories(database: Database) -> dict[Identity, Counter[str]]:
    """Return what the database holds: each message and how often each status is in its history."""
    result: dict[Identity, Counter[str]] = defaultdict(Counter)
    for status, *parts in database.query(
        "SELECT s.status, m.direction, m.cellcast_id, m.sender, m.receiver, m.body "
        "FROM cellcast_django_statuschange s "
        "JOIN cellcast_django_message m ON m.id = s.message_id"
    ):
        result[_identity(parts)][status] += 1
    return dict(result)


def stored_statuses(database: Database) -> list[tuple[Identity, str]]:
    """Return each message of the database with its status."""
    rows = database.query(
        "SELECT status, direction, cellcast_id, sender, receiver, body FROM cellcast_django_message"
    )
    return [(_identity(parts), status) for status, *parts in rows]


def stored_facts(database: Database) -> set[Fact]:
    """Return what the handlers must have heard, by the rows that the database holds."""
    facts: set[Fact] = set()
    for status, previous, *parts in database.query(
        "SELECT s.status, s.previous_status, m.direction, m.cellcast_id, m.sender, m.receiver, "
        "m.body FROM cellcast_django_statuschange s "
        "JOIN cellcast_django_message m ON m.id = s.message_id"
    ):
        identity = _identity(parts)
        is_first_of_a_reply = identity[0] == "inbound" and not previous
        facts.add(
            ("message_received", *identity)
            if is_first_of_a_reply
            else ("status_changed", *identity, status)
        )
    return facts | {("opt_out_received", contact) for contact in stored_opt_outs(database)}


def finished(calls: Iterable[Call]) -> Counter[tuple[str, Fact]]:
    """Return how often each handler finished with each fact."""
    return Counter((call.handler, call.fact) for call in calls if call.phase == "end")


def _identity(parts: list[str]) -> Identity:
    direction, cellcast_id, *rest = parts
    return ("outbound", cellcast_id) if direction == "outbound" else (direction, cellcast_id, *rest)
