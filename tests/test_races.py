"""Webhooks that arrive at the same moment: threads with their own connections."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from threading import Barrier, Event
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction
from django.utils import timezone

from cellcast_django.factories import MessageFactory
from cellcast_django.handlers import run_again, run_due
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.signals import (
    exactly_once,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import (
    WebhookClient,
    opt_out_payload,
    reply_payload,
    run_handlers,
    status_payload,
)
from tests.database_faults import just_before
from tests.handlers import Calls, connected

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard() -> Iterator[Counter[str]]:
    """How often each fact was run."""
    heard: Counter[str] = Counter()

    def hear_reply(message: Message, **kwargs: Any) -> None:
        heard[message.body] += 1

    def hear_status(message: Message, status_change: StatusChange, **kwargs: Any) -> None:
        heard[f"{message.cellcast_id} {status_change.status}"] += 1

    def hear_opt_out(contact: str, **kwargs: Any) -> None:
        heard[f"opt-out of {contact}"] += 1

    with (
        connected(message_received, hear_reply=hear_reply),
        connected(status_changed, hear_status=hear_status),
        connected(opt_out_received, hear_opt_out=hear_opt_out),
    ):
        yield heard


T = TypeVar("T")


def at_once(calls: list[Callable[[], T]]) -> list[T]:
    """Make all the calls at the same moment, each in its own thread.

    Then read what was deferred, as on a machine so busy that a lock is not had in time.
    """
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait()
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        returned = list(threads.map(run, calls))
    run_handlers()
    return returned


def send(endpoint: str, payload: Any) -> Callable[[], tuple[int, list[str]]]:
    def call() -> tuple[int, list[str]]:
        response = WebhookClient().webhook(payload, endpoint)
        return response.status_code, [e["outcome"] for e in response.json().get("events", [])]

    return call


STOP = reply_payload(sender="0404000000", message="STOP")


def outcomes() -> Counter[str]:
    """What has become of all events."""
    return Counter(WebhookEvent.objects.values_list("outcome", flat=True))


@pytest.mark.parametrize(
    ("endpoint", "payload", "facts"),
    [
        ("status", status_payload(_id="1"), ["1 delivered"]),
        ("receive", STOP, ["STOP", "opt-out of +61404000000"]),
    ],
)
def test_twenty_copies_make_one_message_one_change_and_one_run(
    heard: Counter[str], endpoint: str, payload: Any, facts: list[str]
) -> None:
    answers = at_once([send(endpoint, payload)] * 20)
    assert Counter(status for status, _ in answers) == {200: 20}
    assert outcomes() == {"stored": 1, "duplicate": 19}
    assert Message.objects.count() == StatusChange.objects.count() == 1
    assert OptOut.objects.count() == len(facts) - 1
    assert heard == dict.fromkeys(facts, 1)


def test_racing_arrays_for_the_same_messages_are_all_stored(heard: Counter[str]) -> None:
    ids = [str(number) for number in range(10)]
    arrays = [[status_payload(_id=each) for each in random.sample(ids, 10)] for _ in range(15)]
    answers = at_once([send("status", array) for array in arrays])
    assert Counter(status for status, _ in answers) == {200: 15}
    assert Message.objects.count() == StatusChange.objects.count() == 10
    assert WebhookEvent.objects.count() == 150
    assert set(heard.values()) == {1}


def test_racing_arrays_opt_each_contact_out_once(heard: Counter[str]) -> None:
    payloads = [
        *(STOP | {"_id": "1", "sender": f"040000000{digit}"} for digit in range(8)),
        *(opt_out_payload(contact=f"40000000{digit}") for digit in range(8)),
    ]
    arrays = [random.sample(payloads, 16) for _ in range(12)]
    answers = at_once([send("receive", array) for array in arrays])
    assert Counter(status for status, _ in answers) == {200: 12}
    assert OptOut.objects.count() == 8
    assert heard.pop("STOP") == 8
    assert set(heard.values()) == {1}


def test_concurrent_opt_outs_leave_an_alternating_history(
    heard: Counter[str],
) -> None:
    def end() -> tuple[int, list[str]]:
        return 200, ["ended"] * opt_in("0404000000")

    def begin() -> tuple[int, list[str]]:
        opt_out("0404000000")
        return 200, []

    stops = [send("receive", STOP | {"_id": str(number)}) for number in range(5)]
    webhooks = [send("opt_out", opt_out_payload())] * 5
    calls = [*stops, *webhooks, *[end] * 7, *[begin] * 3]
    answers = at_once(random.sample(calls, len(calls)))
    assert {status for status, _ in answers} == {200}
    made = OptOut.objects.get()
    changes = list(made.history.all())
    standing = [(None, changes[0]), *pairwise(changes)]
    # Only a person adds a row to one that stands.
    assert all(
        change.kind != (before.kind if before else "ended")
        or (change.kind, change.source) == ("begun", "person")
        for before, change in standing
    )
    counts = Counter(change.kind for change in changes)
    assert counts["ended"] == sum(outcomes == ["ended"] for _, outcomes in answers)
    assert heard["opt-out of +61404000000"] == len(made.history.exclude(event=None))
    assert made.is_active == is_opted_out("0404000000") == (changes[-1].kind == "begun")
    began = (each for each in standing if each[1].kind == "begun")
    *_, last = (change for before, change in began if not before or before.kind == "ended")
    assert (made.since, made.source, made.event_id) == (last.at, last.source, last.event_id)
    assert made.ended_at == (None if made.is_active else changes[-1].at)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mark", [exactly_once, lambda each: in_order(exactly_once(each))])
def test_two_people_and_a_run_make_no_call_that_nobody_asks_for(mark: Any) -> None:
    """One that is running may be taken over, and then leaves nothing of its own.

    What ends as somebody clicks is left as it is; what was done before that is made again.
    """
    clicks: list[tuple[list[str], list[str], datetime]] = []

    def book(message: Message, **_kwargs: Any) -> None:
        time.sleep(random.random() / 40)  # noqa: S311
        Group.objects.create(name=f"{message.body}{timezone.now().isoformat()}")

    def person() -> None:
        time.sleep(random.random() / 10)  # noqa: S311
        texts = random.sample("1234", 3)
        chosen = HandlerCall.objects.filter(event__message__body__in=texts)
        done = list(chosen.done().values_list("event__message__body", flat=True))
        clicks.append((texts, done, at := timezone.now()))
        run_again(chosen, since=at)

    for _ in range(40):
        for forget in (Group.objects.all(), WebhookEvent.objects.all(), Message.objects.all()):
            forget.delete()
        clicks.clear()
        with connected(message_received, booking=mark(Calls(error=ValueError("a bug")))):
            for text in "1234":
                WebhookClient().reply(message=text)
        HandlerCall.objects.update(next_attempt_at=timezone.now())
        with connected(message_received, booking=mark(book)):
            racing: list[Callable[[], object]] = [person, person, run_due]
            at_once(racing)
        for text in "1234":
            made = Group.objects.filter(name__startswith=text).order_by("name")
            ends = [datetime.fromisoformat(group.name[1:]) for group in made]
            asked = [at for texts, _, at in clicks if text in texts]
            assert all(any(one < at < two for at in asked) for one, two in pairwise(ends))
            call = HandlerCall.objects.get(event__message__body=text)
            assert call.state == "done" and call.ended_at is not None
            assert all(at < call.ended_at for _, done, at in clicks if text in done)


# A webhook and a recovery report the same replies


# What people and the host's code write


@pytest.mark.skipif(connection.vendor != "postgresql", reason="takes a second to see a deadlock")
@pytest.mark.parametrize(
    ("write", "last_statement"),
    [
        (lambda reply: opt_in(reply.contact), "^INSERT .*_optoutchange"),
        (
            lambda reply: Message.objects.record_sent("1", receiver=reply.contact, answers=reply),
            "^UPDATE .*handled_at",
        ),
    ],
    ids=["opt_in", "record_sent"],
)
def test_write_of_the_hosts_is_tried_again_after_a_deadlock(
    write: Callable[[Message], object], last_statement: str
) -> None:
    """However long the database took to say so, and though the write opened the connection."""
    reply = MessageFactory.create(inbound=True)
    opt_out(reply.contact)
    MessageFactory.create(receiver=reply.contact, cellcast_id="1")
    has_locked, is_waited_for = Event(), Event()

    def lock_reply() -> None:
        list(Message.objects.filter(pk=reply.pk).select_for_update())

    def lock_the_other_way_round() -> None:
        with transaction.atomic():
            lock_reply()
            has_locked.set()
            is_waited_for.wait(10)
            time.sleep(0.3)  # whoever has waited for a second is refused
            list(OptOut.objects.select_for_update())
            list(Message.objects.outbound().select_for_update())
        connections.close_all()

    def wait_for_reply() -> None:
        is_waited_for.set()
        lock_reply()

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(lock_the_other_way_round)
        has_locked.wait(10)
        connection.close()
        try:
            with just_before(last_statement, wait_for_reply):
                assert write(reply)
        finally:
            is_waited_for.set()
            other.result()
