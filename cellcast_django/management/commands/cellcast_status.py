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

from cellcast_django.health import Health, age, count_silent, measure_health
from cellcast_django.management.terminal import parse_duration, says_if_refused
from cellcast_django.payloads import Endpoint
from cellcast_django.verifying import find_broken
from cellcast_django.webhooks import WEBHOOKS

ENDPOINTS = {each.slug: each.endpoint for each in WEBHOOKS}


def max_age(text: str) -> tuple[Endpoint | None, timedelta]:
    """Parse ``receive=2h``, or ``15m`` for any URL. Raises ``ArgumentTypeError``."""
    name, separator, duration = text.rpartition("=")
    if separator and name not in ENDPOINTS:
        raise ArgumentTypeError(f'"{name}" is not one of the URLs: {", ".join(ENDPOINTS)}.')
    return ENDPOINTS.get(name), parse_duration(duration)


def max_count(text: str) -> int:
    """Parse a whole number. Raises ``ArgumentTypeError``, for a negative one too."""
    if not text.isdecimal():
        raise ArgumentTypeError(f'"{text}" is not a whole number.')
    return int(text)


class Command(BaseCommand):
    help = (
        "Print when the last webhooks arrived, the outcomes of the last day's events, the pending "
        "and failed calls of handlers, the waiting replies, and how many of the last day's "
        "messages were delivered. Exits 1 if no reports come or a limit is exceeded, and prints "
        "which one on stderr: for cron and monitoring. Changes nothing."
    )
    requires_system_checks = []  # a warning about the settings says nothing about webhooks

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--verify",
            action="store_true",
            help="read everything that is stored, and print the rows that break a promise by their "
            "ids: exit 1 if there are any",
        )
        # Django gives it to commands that run the checks, such as this one's neighbours in cron.
        parser.add_argument("--skip-checks", action="store_true", help="no checks are run anyway")
        parser.add_argument(
            "--max-age",
            action="append",
            type=max_age,
            default=[],
            metavar="[URL=]AGE",
            help="exit 1 if the last webhook is older than this: 15m, 2h or 1d on any URL, or "
            "receive=2h on one of receive, status and opt-out; may be repeated",
        )
        for state, verb in (("pending", "are pending"), ("failed", "have failed")):
            parser.add_argument(
                f"--max-{state}",
                type=max_count,
                metavar="N",
                help=f"exit 1 if more calls of handlers than this {verb}",
            )
        parser.add_argument(
            "--max-silent",
            type=parse_duration,
            metavar="AGE",
            help="exit 1 if a message of the last week was sent longer ago than this, such as 6h, "
            "and has no report yet; needs record_sent",
        )
        parser.add_argument(
            "--max-unanswered",
            type=parse_duration,
            metavar="AGE",
            help="exit 1 if a reply has been waiting for an answer for longer, such as 2h",
        )
        parser.add_argument(
            "--max-stop-wish",
            type=parse_duration,
            metavar="AGE",
            help="exit 1 if a waiting reply that may ask for no more messages came longer ago, "
            "such as 3d",
        )
        parser.add_argument(
            "--min-credit",
            type=max_count,
            metavar="N",
            help="exit 1 if fewer SMS credits than this are left, or cellcast_recover has not read "
            "how many in the last day",
        )

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Print the health. Raises ``CommandError`` if a limit is exceeded."""
        health = measure_health()
        found = list(problems(health, options))
        broken = list(find_broken()) if options["verify"] else []
        if broken:
            found.append(f"Rows that break a promise: {len(broken):,}.")
        if options["json"]:
            document = as_dict(health) | {"problems": found}
            if options["verify"]:
                document["broken"] = [asdict(each) for each in broken]
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, indent=2))
        else:
            self._print(health)
            if options["verify"]:
                self._heading("Rows that break a promise")
                for each in broken:
                    self._row(each.rule, f"{each.model} {each.id}")
        if found:
            raise CommandError(" ".join(found))

    def _print(self, health: Health) -> None:
        self._heading("Last webhook")
        for url in health.webhooks.urls.values():
            problem = f" ({url.problem})" if url.problem else ""
            self._row(str(url.endpoint.label), since(url.last_at, never="none") + problem)
        self._heading("Last webhook by username")
        for username, at in health.webhooks.last_use_of.items():
            self._row(username, since(at))
        self._heading("Events of the last 24 hours")
        for outcome, count in health.events.items():
            note = f" ({health.invalid:,} of any age)" if outcome == "invalid" else ""
            self._row(str(outcome.label), f"{count:,}{note}")
        if health.deferred.count:
            waiting = with_oldest(health.deferred.count, health.deferred.oldest_at)
            self._row("to be read", waiting)
        if health.tests:
            self._row("tests", f"{health.tests:,}, left out of all figures")
        self._heading("Handlers")
        handlers = health.handlers
        for state in ("waiting", "retrying", "failed"):
            self._row(state, f"{getattr(handlers, state):,}")
        if handlers.overdue:
            self._row("overdue", f"the oldest was due {since(handlers.oldest_due_at)}")
        self._row("last run", since(handlers.ran_at))
        for each in health.failing_handlers:
            counts = f"{each.retrying:,} retrying, {each.failed:,} failed"
            self._row("failing", f"{each.handler}: {counts}, since {since(each.since)}")
        for slow in health.slowest_handlers:
            self._row("took", f"{slow.seconds:,.2f} s  {slow.handler}")
        self._heading("Replies")
        replies, wishes = health.replies, health.replies.stop_wishes
        self._row("to answer", with_oldest(replies.waiting, replies.oldest_at))
        self._row("wish to stop", with_oldest(wishes.count, wishes.oldest_at))
        self._heading("Messages sent in the last 24 hours")
        deliveries = health.deliveries
        rate = deliveries.rate
        note = "" if rate is None else f" ({rate:.1%} of those with a final status)"
        self._row("delivered", f"{deliveries.delivered:,}{note}")
        self._row("not delivered", f"{deliveries.undelivered:,}")
        unfinished = deliveries.sent - deliveries.delivered - deliveries.undelivered
        self._row("on the way", f"{unfinished:,}")
        if deliveries.although_opted_out:
            self._row("opted out", f"{deliveries.although_opted_out:,}, and sent all the same")
        if credit := health.credit:
            self._heading(f"Credit, read {since(credit.read_at)}")
            self._row("SMS", f"{credit.sms:,}")
            if credit.mms is not None:
                self._row("MMS", f"{credit.mms:,}")

    def _heading(self, text: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(text))

    def _row(self, name: str, value: str) -> None:
        self.stdout.write(f"  {name:<13} {value}")


def since(moment: datetime | None, *, never: str = "never") -> str:
    """Return how long ago a moment was, in words."""
    if moment is None:
        return never
    passed = age(moment)
    if passed < timedelta(minutes=1):
        return f"{passed.seconds} s ago"
    now = timezone.now()
    return timesince(now - passed, now).replace("\xa0", " ") + " ago"


def with_oldest(count: int, oldest_at: datetime | None) -> str:
    """Return how many there are, and when the oldest came."""
    return f"{count:,}" + (f", the oldest came {since(oldest_at)}" if oldest_at else "")


def problems(health: Health, limits: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each light that is red, and each limit that is exceeded."""
    webhooks = health.webhooks
    for url in webhooks.urls.values():
        if url.problem:
            yield f"{url.endpoint.label}: {url.problem}"
    for endpoint, limit in limits["max_age"]:
        where = f"on the {endpoint.label}" if endpoint else "on any URL"
        at = webhooks.urls[endpoint].last_at if endpoint else webhooks.last_at
        if at is None:
            yield f"No webhook has arrived {where}."
        elif age(at) > limit:
            yield f"The last webhook {where} arrived {since(at)}."
    deferred = health.deferred
    if deferred.is_overdue:
        yield f"Deferred for a day: {with_oldest(deferred.count, deferred.oldest_at)}."
    for name, more in (("pending", deferred.count), ("failed", 0)):
        count, most = getattr(health.handlers, name) + more, limits[f"max_{name}"]
        if most is not None and count > most:
            yield f"Handlers {name}: {count:,} (limit: {most:,})."
    if limits["max_silent"] is not None and (silent := count_silent(limits["max_silent"])):
        yield f"Messages without a report for too long: {silent:,}."
    replies, longest = health.replies, limits["max_unanswered"]
    if longest is not None and replies.longest_wait > longest:
        yield f"Replies waiting: {with_oldest(replies.waiting, replies.oldest_at)}."
    wishes, longest = replies.stop_wishes, limits["max_stop_wish"]
    if longest is not None and wishes.oldest_at and age(wishes.oldest_at) > longest:
        found = with_oldest(wishes.count, wishes.oldest_at)
        yield f"Replies that may ask for no more messages: {found}."
    if (least := limits["min_credit"]) is not None:
        credit = health.credit
        if credit is None or not credit.is_recent:
            yield f"The credit was last read: {since(credit.read_at if credit else None)}."
        elif credit.sms < least:
            yield f"SMS credits: {credit.sms:,} (limit: {least:,})."


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
        "usernames": {name: webhook(at) for name, at in health.webhooks.last_use_of.items()},
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
