"""Handlers that note when they begin and when they have finished, one line of a file each time.

The line is there as soon as it is written, whatever kills the process next.
"""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connections, router
from django.db.models import Max

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import RetryLater
from tests.stress.host.deaths import die_if

LOG = Path(os.environ["FIRE_FOLDER"]) / "calls.jsonl"
RETRY_PAUSE = timedelta(seconds=0.1)


class Handler:
    """Listens to all three signals under a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, event: WebhookEvent, **arguments: Any) -> None:
        fact = describe(event, **arguments)
        attempt = event.calls.filter(handler=self.name).aggregate(Max("attempts"))["attempts__max"]
        self.note("begin", event, fact)
        die_if(f"in-{self.name}@{attempt}", event)
        sleep_if(f"sleep-{self.name}@{attempt}", event)
        refuse_if(f"refuse-{self.name}@{attempt}", event)
        ask_for_retry_if(f"retry-{self.name}", event, attempt)
        self.note("end", event, fact)
        die_if(f"after-{self.name}@{attempt}", event)

    def note(self, phase: str, event: WebhookEvent, fact: list[str]) -> None:
        line = {
            "handler": self.name,
            "phase": phase,
            "event": event.pk,
            "fact": fact,
            "pid": os.getpid(),
            "at": time.time(),
        }
        log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, json.dumps(line).encode() + b"\n")
        os.close(log)


class Writer(Handler):
    """Writes a row, too: into the database, where its result is saved."""

    def __call__(self, event: WebhookEvent, **arguments: Any) -> None:
        super().__call__(event, **arguments)
        with connections[router.db_for_write(Message)].cursor() as cursor:
            cursor.execute("INSERT INTO fire_written VALUES (%s)", [event.pk])


def describe(event: WebhookEvent, **arguments: Any) -> list[str]:
    """Return what was heard, as the oracle names it too."""
    message: Message | None = arguments.get("message")
    if message is None:
        return ["opt_out_received", arguments["contact"]]
    identity = [message.direction, message.cellcast_id]
    if message.direction == "inbound":
        identity += [message.sender, message.receiver, message.body]
    if change := arguments.get("status_change"):
        return ["status_changed", *identity, change.status]
    return ["message_received", *identity]


def refuse_if(place: str, event: WebhookEvent) -> None:
    """Let the database refuse a statement where the event's id says so."""
    if place in event.cellcast_id.partition(" ")[0].split("+"):
        with connections[router.db_for_write(Message)].cursor() as cursor:
            cursor.execute("INSERT INTO there_is_no_such_table VALUES (1)")


def ask_for_retry_if(place: str, event: WebhookEvent, attempt: int) -> None:
    """Ask to be called again soon where the event's id says so: at one attempt, or at each."""
    places = event.cellcast_id.partition(" ")[0].split("+")
    if place in places or f"{place}@{attempt}" in places:
        raise RetryLater(RETRY_PAUSE)


def sleep_if(place: str, event: WebhookEvent) -> None:
    """Sleep where the event's id says so: ``sleep-first@1=2.5``, in seconds."""
    for part in event.cellcast_id.partition(" ")[0].split("+"):
        where, _, seconds = part.partition("=")
        if where == place:
            time.sleep(float(seconds))
