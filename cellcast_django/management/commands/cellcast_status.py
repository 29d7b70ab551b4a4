"""Report webhook health, to a person or to monitoring."""

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.timesince import timesince

from cellcast_django.health import Health, count_silent, measure_health
from cellcast_django.management.terminal import parse_duration
from cellcast_django.payloads import Endpoint
from cellcast_django.webhooks import WEBHOOKS

ENDPOINTS = {each.slug: each.endpoint for each in WEBHOOKS}


class MaxAge(NamedTuple):
    """How old the last webhook may be: on one URL, or on any of them (``None``)."""

    endpoint: Endpoint | None
    age: timedelta


def max_age(text: str) -> MaxAge:
    """Parse ``15m`` or ``receive=2h``. Raises ``ArgumentTypeError``."""
    name, separator, duration = text.rpartition("=")
    if separator and name not in ENDPOINTS:
        raise ArgumentTypeError(f'"{name}" is not one of the URLs: {", ".join(ENDPOINTS)}.')
    return MaxAge(ENDPOINTS.get(name), parse_duration(duration))


def max_count(text: str) -> int:
    """Parse a whole number. Raises ``ArgumentTypeError``, for a negative one too."""
    if not text.isdecimal():
        raise ArgumentTypeError(f'"{text}" is not a whole number.')
    return int(text)


class Command(BaseCommand):
    help = (
        "Print when the last webhooks arrived, the outcomes of the last day's events, the pending "
        "and failed events, and how many of the last day's messages were delivered. Exits 1 "
        "if a limit is exceeded, and prints which one on stderr: for cron and monitoring. Changes "
        "nothing."
    )
    requires_system_checks = []  # a warning about the settings says nothing about webhooks

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--max-age",
            action="append",
            type=max_age,
            default=[],
            metavar="[URL=]AGE",
            help="exit 1 if the last webhook is older than this: 15m, 2h or 1d on any URL, or "
            "receive=2h on one of receive, status and opt-out; may be repeated",
        )
        parser.add_argument(
            "--max-pending",
            type=max_count,
            metavar="N",
            help="exit 1 if more events than this are pending",
        )
        parser.add_argument(
            "--max-failed",
            type=max_count,
            metavar="N",
            help="exit 1 if more events than this have failed",
        )
        parser.add_argument(
            "--max-silent",
            type=parse_duration,
            metavar="AGE",
            help="exit 1 if a message of the last week was sent longer ago than this, such as 6h, "
            "and has no report yet; needs record_sent",
        )

    def handle(self, **options: Any) -> None:
        """Print the health. Raises ``CommandError`` if a limit is exceeded."""
        health = measure_health()
        found = list(problems(health, options))
        if options["json"]:
            document = as_dict(health) | {"problems": found}
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, indent=2))
        else:
            self._print(health)
        if found:
            raise CommandError(" ".join(found))

    def _print(self, health: Health) -> None:
        self._heading("Last webhook")
        for endpoint, at in health.last_webhook_at.items():
            self._row(str(endpoint.label), since(health, at) if at else "none")
        self._heading("Last webhook by username")
        for username, at in health.last_use_of.items():
            self._row(username, since(health, at))
        self._heading("Events of the last 24 hours")
        for outcome, count in health.events.items():
            note = f" ({health.invalid:,} of any age)" if outcome == "invalid" else ""
            self._row(str(outcome.label), f"{count:,}{note}")
        self._heading("Handlers")
        self._row("pending", pending_in_words(health))
        self._row("failed", f"{health.failed:,}")
        if health.handlers_ran_at:
            self._row("last run", since(health, health.handlers_ran_at))
        self._heading("Messages sent in the last 24 hours")
        rate = health.delivery_rate
        note = "" if rate is None else f" ({rate:.1%} of those with a final status)"
        self._row("delivered", f"{health.delivered:,}{note}")
        self._row("undelivered", f"{health.undelivered:,}")
        self._row("in transit", f"{health.sent - health.delivered - health.undelivered:,}")

    def _heading(self, text: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(text))

    def _row(self, name: str, value: str) -> None:
        self.stdout.write(f"  {name:<13} {value}")


def pending_in_words(health: Health) -> str:
    """Return how many events are pending, and how late the oldest is."""
    count = f"{health.pending:,}"
    if not health.overdue:
        return count
    return f"{count}, the oldest due {since(health, health.measured_at - health.overdue)}"


def since(health: Health, moment: datetime) -> str:
    """Return how long ago a moment was, in words."""
    age = health.age(moment)
    if age < timedelta(minutes=1):
        return f"{age.seconds} s ago"
    return timesince(moment, health.measured_at).replace("\xa0", " ") + " ago"


def problems(health: Health, limits: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each limit that is exceeded."""
    for endpoint, age in limits["max_age"]:
        where = f"on the {endpoint.label}" if endpoint else "on any URL"
        at = health.last_webhook_at[endpoint] if endpoint else health.last_webhook_at_any_url
        if at is None:
            yield f"No webhook has arrived {where}."
        elif health.age(at) > age:
            yield f"The last webhook {where} arrived {since(health, at)}."
    for name, count in (("pending", health.pending), ("failed", health.failed)):
        limit = limits[f"max_{name}"]
        if limit is not None and count > limit:
            yield f"Handlers {name}: {count:,} (limit: {limit:,})."
    if limits["max_silent"] is not None and (silent := count_silent(limits["max_silent"])):
        yield f"Messages without a report for too long: {silent:,}."


def as_dict(health: Health) -> dict[str, Any]:
    """Return the health for JSON: ages in seconds, the delivery rate from 0 to 1."""

    def webhook(at: datetime | None) -> dict[str, Any]:
        return {"at": at, "age_seconds": health.age(at).total_seconds() if at else None}

    return {
        "measured_at": health.measured_at,
        "last_webhooks": {
            endpoint.value: webhook(at) for endpoint, at in health.last_webhook_at.items()
        },
        "usernames": {username: webhook(at) for username, at in health.last_use_of.items()},
        "events": {outcome.value: count for outcome, count in health.events.items()},
        "invalid_of_any_age": health.invalid,
        "handler_results": {
            "pending": health.pending,
            "failed": health.failed,
            "oldest_due_at": health.oldest_due_at,
            "overdue_seconds": health.overdue.total_seconds(),
            "last_run_at": health.handlers_ran_at,
        },
        "messages": {
            "sent": health.sent,
            "delivered": health.delivered,
            "undelivered": health.undelivered,
            "delivery_rate": health.delivery_rate,
        },
    }
