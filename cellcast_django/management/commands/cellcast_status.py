"""Report webhook health, to a person or to monitoring."""

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from django.utils.timesince import timesince

from cellcast_django.health import Health, age, count_silent, look_into_tables, measure_health
from cellcast_django.management.terminal import parse_duration, says_if_refused
from cellcast_django.payloads import Endpoint
from cellcast_django.upkeep.verifying import find_broken
from cellcast_django.webhooks import WEBHOOKS

ENDPOINTS = {each.endpoint.slug: each.endpoint for each in WEBHOOKS}


def max_age(text: str) -> tuple[Endpoint | None, timedelta]:
    """Parse ``receive=2h``, or ``15m`` for any URL. Raises ``ArgumentTypeError``."""
    name, separator, duration = text.rpartition("=")
    if separator and name not in ENDPOINTS:
        raise ArgumentTypeError(f'"{name}" is not one of the URLs: {", ".join(ENDPOINTS)}.')
    return ENDPOINTS.get(name), parse_duration(duration)


LIMITS = {
    "max-pending": "more calls of handlers and deferred events than this are pending",
    "max-failed": "more calls of handlers than this have failed",
    "max-silent": "a message of the last week has had no report for longer, such as 6h",
    "max-unanswered": "a reply has waited for an answer for longer, such as 2h",
    "max-stop-wish": "a waiting reply that may want to stop is older, such as 3d",
    "min-credit": "fewer SMS credits are left, or cellcast_recover has not read how many in the "
    "last day",
}
"""Options, each with when the command exits with 1."""
ARE_COUNTS = ("max-pending", "max-failed", "min-credit")
"""The others are ages."""


class Command(BaseCommand):
    help = (
        "Print when the last webhooks arrived, the last day's events and deliveries, the pending "
        "and failed calls of handlers, and the waiting replies. Exits 1 if no reports come or a "
        "limit is exceeded, and prints which one on stderr: for cron and monitoring."
    )
    requires_system_checks = []  # a warning about the settings says nothing about webhooks

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--verify",
            action="store_true",
            help="read all that is stored; exit 1 if a row breaks a promise",
        )
        # Django gives it to commands that run the checks, such as this one's neighbours in cron.
        parser.add_argument("--skip-checks", action="store_true", help="no checks are run anyway")
        parser.add_argument(
            "--max-age",
            action="append",
            type=max_age,
            default=[],
            metavar="[URL=]AGE",
            help="exit 1 if the last webhook is older: 15m on any URL, or on one of them "
            "receive=2h, status=2h or opt-out=2h; may be repeated",
        )
        for name, when in LIMITS.items():
            parse, metavar = (int, "N") if name in ARE_COUNTS else (parse_duration, "AGE")
            parser.add_argument(f"--{name}", type=parse, metavar=metavar, help=f"exit 1 if {when}")

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Print the health. Raises ``CommandError`` if a limit is exceeded."""
        look_into_tables()
        health = measure_health()
        document = as_dict(health) | {"problems": list(problems(health, options))}
        if options["verify"]:
            broken = document["broken"] = [asdict(each) for each in find_broken()]
            if broken:
                document["problems"].append(f"Rows that break a promise: {len(broken):,}.")
        if options["json"]:
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, indent=2))
        else:
            self._print(document)
        if document["problems"]:
            raise CommandError(" ".join(document["problems"]))

    def _print(self, document: dict[str, Any]) -> None:
        for name, value in document.items():
            if isinstance(value, dict):
                lines = [f"{spaced(key):<20} {words(each)}" for key, each in value.items()]
            else:
                lines = [words(each) for each in (value if isinstance(value, list) else [value])]
            self.stdout.write(self.style.MIGRATE_HEADING(spaced(name).capitalize()))
            for line in lines or ["none"]:
                self.stdout.write(f"  {line}")


def words(value: Any) -> str:
    """Return a value of the document as a person reads it: times in the current time zone."""
    if isinstance(value, dict):
        shown = {name: each for name, each in value.items() if name != "age_seconds"}
        if "id" in shown:
            shown["id"] = str(shown["id"])  # to be pasted, so it has no comma
        return ", ".join(f"{spaced(name)} {words(each)}" for name, each in shown.items())
    if isinstance(value, datetime):
        ago = f" ({since(value)})" if value <= timezone.now() else ""
        return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}{ago}"
    if isinstance(value, int | float):
        return f"{round(value, 3):,}"
    return "none" if value is None else str(value)


def spaced(name: str) -> str:
    """Return a key of the document as words."""
    return name.replace("_", " ")


def since(moment: datetime | None) -> str:
    """Return how long ago a moment was, in words."""
    if moment is None:
        return "never"
    now = timezone.now()
    return timesince(now - age(moment), now).replace("\xa0", " ") + " ago"


def with_oldest(count: int, oldest_at: datetime | None) -> str:
    """Return how many there are, and when the oldest came."""
    return f"{count:,}, the oldest came {since(oldest_at)}"


def problems(health: Health, limits: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each light that is red, and each limit that is exceeded."""

    def exceeded(name: str, value: Any) -> bool:
        return limits[name] is not None and value > limits[name]

    yield from _problems_of_urls(health, limits["max_age"])
    deferred, pending = health.deferred, health.handlers.pending + health.deferred.count
    if deferred.is_overdue:
        yield f"Deferred for a day: {with_oldest(deferred.count, deferred.oldest_at)}."
    if exceeded("max_pending", pending):
        yield f"Handlers pending: {pending:,} (limit: {limits['max_pending']:,})."
    if exceeded("max_failed", health.handlers.failed):
        yield f"Handlers failed: {health.handlers.failed:,} (limit: {limits['max_failed']:,})."
    if limits["max_silent"] is not None and (silent := count_silent(limits["max_silent"])):
        yield f"Messages without a report for too long: {silent:,}."
    replies, wishes = health.replies, health.replies.stop_wishes
    if exceeded("max_unanswered", replies.longest_wait):
        yield f"Replies waiting: {with_oldest(replies.waiting, replies.oldest_at)}."
    if wishes.oldest_at and exceeded("max_stop_wish", age(wishes.oldest_at)):
        found = with_oldest(wishes.count, wishes.oldest_at)
        yield f"Replies that may ask for no more messages: {found}."
    credit, least = health.credit, limits["min_credit"]
    if least is None:
        return
    if credit is None or not credit.is_recent:
        yield f"The credit was last read: {since(credit.read_at if credit else None)}."
    elif credit.sms < least:
        yield f"SMS credits: {credit.sms:,} (limit: {least:,})."


def _problems_of_urls(health: Health, max_ages: list[Any]) -> Iterator[str]:
    """Yield what is wrong with a URL, or older than ``max_age`` allows."""
    webhooks = health.webhooks
    for url in webhooks.urls.values():
        if url.problem:
            yield f"{url.endpoint.label}: {url.problem}"
    for endpoint, limit in max_ages:
        where = f"on the {endpoint.label}" if endpoint else "on any URL"
        at = webhooks.urls[endpoint].last_at if endpoint else webhooks.last_at
        if at is None or age(at) > limit:
            yield f"The last webhook {where} arrived: {since(at)}."


def as_dict(health: Health) -> dict[str, Any]:
    """Return the health for JSON: ages in seconds, the delivery rate from 0 to 1."""

    def webhook(at: datetime | None) -> dict[str, Any]:
        return {"at": at, "age_seconds": age(at).total_seconds() if at else None}

    handlers, replies, deliveries = health.handlers, health.replies, health.deliveries
    return {
        "measured_at": health.measured_at,
        "last_webhooks": {
            url.endpoint.value: webhook(url.last_at) | {"light": url.light.value}
            for url in health.webhooks.urls.values()
        },
        "received_as": {name: webhook(at) for name, at in health.webhooks.last_use_of.items()},
        "events": {outcome.value: count for outcome, count in health.events.items()},
        "tests": health.tests,
        "invalid_of_any_age": health.invalid,
        "deferred": {"count": health.deferred.count, "oldest_at": health.deferred.oldest_at},
        "handlers": {
            "pending": handlers.pending,
            "waiting": handlers.waiting,
            "retrying": handlers.retrying,
            "failed": handlers.failed,
            "oldest_due_at": handlers.oldest_due_at,
            "overdue_seconds": handlers.overdue.total_seconds(),
            "last_run_at": handlers.ran_at,
        },
        "replies": {
            "waiting": replies.waiting,
            "oldest_at": replies.oldest_at,
            "longest_wait_seconds": replies.longest_wait.total_seconds(),
            "stop_wishes": asdict(replies.stop_wishes),
        },
        "messages": asdict(deliveries) | {"delivery_rate": deliveries.rate},
        "credit": asdict(health.credit) if health.credit else None,
        "failing_handlers": [each._asdict() for each in health.failing_handlers],
        "slowest_handlers": [each._asdict() for each in health.slowest_handlers],
    }
