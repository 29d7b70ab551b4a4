"""Histories: any order of webhooks, runs, crashes and people, held against the promises.

Hypothesis draws each history from a seed, and shortens one that breaks a promise to the steps
that matter. ``Expected`` is the oracle: the promises as a plain model, which shares no line with
the app. ``make histories SEED=…`` repeats a run; the profile "thorough" draws more and longer
histories.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cellcast_django import handlers, opt_outs, receiving
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.recovery import recover
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    exactly_once,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.tasks import run_handlers
from cellcast_django.testing import (
    WebhookClient,
    authorization,
    reply_payload,
    status_payload,
)
from cellcast_django.upkeep.retention import Selection, prune
from cellcast_django.upkeep.taken_back import take_back
from cellcast_django.upkeep.verifying import find_broken
from tests.fake_cellcast import KEY, serving
from tests.handlers import Died, connected

START = datetime(2026, 10, 3, 15, 50, tzinfo=UTC)
"""Ten minutes before the clocks in Sydney are put forward."""
MAX_ATTEMPTS = 3
USUAL_TIME = timedelta(minutes=1 + 2)
"""How long the pauses between that many attempts take."""
LATER = timedelta(minutes=20)
LONG = timedelta(hours=7)
"""Longer than any pause and any lease."""

CONTACTS = ["+61491570006", "+61491570156", "+61491570157"]
OWN_NUMBER = "+61491570110"
TEXTS = ["Yes", "No", "STOP", " stop! ", ""]
RANKS = ["queued", "sent", "received", "odd", "failed", "blocked", "delivered"]
"""Some statuses, the lowest first; one of them is not known."""
INVALID = ["{", "[]", '{"type": "send"}', '{"type": "optout"}', "\x00 no JSON", '{"_id": {}}']

DUMMY = f"{receiving.tasks_package().__name__}.backends.dummy.DummyBackend"
"""A queue that nobody works off unless a rule does."""

SIGNALS = {
    "message": message_received,
    "status": status_changed,
    "opt_out": opt_out_received,
}
HANDLERS = {
    "plain": ("message", "status", "opt_out"),
    "once": ("message", "status"),
    "ordered": ("message", "status"),
    "ordered_once": ("message",),
}
PROCESSES = {"web": list(HANDLERS), "worker": ["plain", "ordered"]}

IDENTITY = ("cellcast_id", "sender", "receiver", "body")
"""What makes a reply the same reply."""
FINAL = {"done", "gave up", "used up", "skipped", "unknown"}


# The oracle

Sources = set[int | None]
"""The events that have said something; ``None`` stands for those that were pruned."""


@dataclass
class Duty:
    """What one handler owes to one fact."""

    in_order: bool
    state: str = "open"
    """``unknown`` once a process has died that may have saved a result, or not."""
    calls: int = 0
    lost: int = 0
    """Of how many calls the process has died, which may not be counted."""
    missed: int = 0
    """In how many runs a process that does not know it may have used up an attempt of it."""
    successes: int = 0
    allowed: int = 1
    """How often it may succeed: once, and once more each time that somebody asks for it."""


@dataclass
class Event:
    """An event that was stored: its contact, when it came, and its facts."""

    contact: str
    received_at: datetime
    facts: list[str]
    body: str = ""
    """Of one that could not be understood."""
    is_redacted: bool = False
    is_invalid: bool = False
    was_interrupted: bool = False
    """Perhaps before its first call, which was stored as begun."""


@dataclass
class Expected:
    """What the promises say must be there after the steps so far."""

    replies: dict[tuple[str, ...], Sources] = field(default_factory=dict)
    histories: dict[str, dict[str, Sources]] = field(default_factory=lambda: defaultdict(dict))
    """The statuses of each message that was sent."""
    references: dict[str, str] = field(default_factory=dict)
    """Of the messages that were recorded."""
    handled: set[tuple[str, ...]] = field(default_factory=set)
    """The replies that were answered or marked, some of them gone since."""
    opted_out: set[str] = field(default_factory=set)
    decisions: Counter[str] = field(default_factory=Counter)
    """How often an opt-out of each contact has begun or ended."""
    events: dict[int, Event] = field(default_factory=dict)
    duties: dict[tuple[int, str, str], Duty] = field(default_factory=dict)

    def take(self, pk: int, payload: dict[str, Any] | str, now: datetime) -> str:
        """Note an event that has been stored, and return the outcome that it must have."""
        if isinstance(payload, str):
            self.events[pk] = Event("", now, [], payload, is_invalid=True)
            return "invalid"
        kind = payload["type"]
        contact = payload["contact"] if kind == "optout" else ""
        facts = []
        if kind == "send":
            contact = payload["receiver"]
            history = self.histories[payload["_id"]]
            if payload["status"] not in history:
                facts.append("status")
            history.setdefault(payload["status"], set()).add(pk)
        if kind == "receive":
            contact = payload["sender"]
            identity = (payload["_id"], contact, payload["receiver"], payload["message"])
            if identity not in self.replies:
                facts.append("message")
                self.handled.discard(identity)
                if payload["message"].strip(" !").lower() == "stop":
                    self.handled.add(identity)
            self.replies.setdefault(identity, set()).add(pk)
        stops = kind == "optout" or payload.get("message", "").strip(" !").lower() == "stop"
        if stops and contact not in self.opted_out:
            self.opted_out.add(contact)
            self.decisions[contact] += 1
            facts.append("opt_out")
        self.events[pk] = Event(contact, now, facts)
        return "stored" if facts else "duplicate"

    def rename(self, reply: tuple[str, ...], now: tuple[str, ...]) -> None:
        self.replies[now] = self.replies.pop(reply)
        if reply in self.handled:
            self.handled.add(now)

    def sources(self) -> Iterator[Sources]:
        yield from self.replies.values()
        for history in self.histories.values():
            yield from history.values()

    def can_be_taken_back(self) -> list[int]:
        """The events of messages whose events are all there, and those of none."""
        pruned = {pk for sources in self.sources() if None in sources for pk in sources}
        of_redacted = {pk for pk, event in self.events.items() if event.is_redacted}
        return sorted(self.events.keys() - pruned - of_redacted)

    def take_back(self, pks: set[int]) -> None:
        """Forget these events: what nothing else says goes, opt-outs stay."""
        for sources in self.sources():
            sources -= pks
        self.replies = {reply: each for reply, each in self.replies.items() if each}
        for cellcast_id, history in list(self.histories.items()):
            left = {status: sources for status, sources in history.items() if sources}
            if left or not history or cellcast_id in self.references:  # or nothing was said of it
                self.histories[cellcast_id] = left
            else:
                del self.histories[cellcast_id]
        for pk in pks:
            del self.events[pk]
        self.duties = {key: duty for key, duty in self.duties.items() if key[0] not in pks}

    def owe(self, pk: int, process: str) -> None:
        """Note what the handlers of a process owe to an event that it has stored."""
        for name in PROCESSES[process]:
            for fact in self.events[pk].facts:
                if fact in HANDLERS[name]:
                    self.duty(pk, name, fact)

    def duty(self, pk: int, name: str, fact: str) -> Duty:
        new = Duty(in_order=name.startswith("ordered"))
        return self.duties.setdefault((pk, name, fact), new)

    def duties_of(self, pk: int) -> dict[tuple[str, str], Duty]:
        return {(name, fact): duty for (of, name, fact), duty in self.duties.items() if of == pk}

    def may_be_used_up(self, pk: int, duty: Duty) -> bool:
        was_interrupted = pk in self.events and self.events[pk].was_interrupted
        return duty.calls + duty.missed + was_interrupted >= MAX_ATTEMPTS

    def first_open(self, pk: int, name: str) -> int | None:
        """Return the first event of the same contact before this one that the handler owes."""
        contact = self.events[pk].contact
        return min(
            (
                of
                for (of, its_name, _), duty in self.duties.items()
                if its_name == name
                and of < pk
                and duty.state == "open"
                and contact
                and self.events[of].contact == contact
            ),
            default=None,
        )


@dataclass
class Lost:
    """A reply that Cellcast lists and whose webhook did not come, or not yet."""

    text: str
    contact: str
    at: datetime

    @property
    def as_listed(self) -> tuple[str, ...]:
        return "", self.contact, "", self.text

    @property
    def as_sent(self) -> tuple[str, ...]:
        return f"late {self.text}", self.contact, OWN_NUMBER, self.text


# What is explored


def report_of(number: int, status: str) -> dict[str, Any]:
    receiver = CONTACTS[number % len(CONTACTS)]
    return status_payload(_id=f"{number:024x}", status=status, receiver=receiver)


outcomes = st.lists(
    st.sampled_from(["raise", "raise", "later", "give up", "die"]), max_size=MAX_ATTEMPTS + 1
)
scripts = st.fixed_dictionaries(dict.fromkeys(HANDLERS, outcomes))
processes = st.sampled_from(list(PROCESSES))
deaths = st.one_of(st.none(), st.none(), st.integers(1, 30))
"""Before which statement of the step its process dies, if it does."""

replies = st.builds(
    lambda number, contact, text: reply_payload(
        _id=f"{number:024x}", message=text, sender=contact, receiver=OWN_NUMBER
    ),
    st.integers(0, 1),
    st.sampled_from(CONTACTS),
    st.sampled_from(TEXTS),
)
reports = st.builds(report_of, st.integers(0, 2), st.sampled_from(RANKS))
opt_out_webhooks = st.builds(
    lambda contact: {"type": "optout", "contact": contact}, st.sampled_from(CONTACTS)
)
payloads = st.one_of(replies, reports, opt_out_webhooks)
URLS = {"receive": "webhook-receiver", "send": "webhook-status", "optout": "webhook-opt-out"}


class Histories(RuleBasedStateMachine):
    """A site, the people and processes around it, and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        for model in (OptOutChange, OptOut, StatusChange, WebhookEvent, Message, Group):
            model._default_manager.all().delete()
        self.expected = Expected()
        self.now = START
        self.client = WebhookClient(raise_handler_errors=False)
        self.scripts: dict[int, dict[str, list[str]]] = {}
        self.script: dict[str, list[str]] = {}
        """Of the webhook that is just being stored."""
        self.by_name: set[int] = set()
        """The events that a person runs, order or not."""
        self.touched: set[tuple[int, str, str]] = set()
        """What has been called in this step."""
        self.violations: list[str] = []
        """What handlers have found: what they raise is the app's to catch."""
        self.is_dead = False
        self.serial = count()
        self.lost: dict[str, Lost] = {}
        self.stack = ExitStack()
        self.api = self.stack.enter_context(serving())
        self.stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            timezone, "now", lambda: self.now
        )
        self.stack.enter_context(
            override_settings(
                CELLCAST_HANDLER_MAX_ATTEMPTS=MAX_ATTEMPTS,
                CELLCAST_API_URL=self.api.url,
                CELLCAST_API_KEY=KEY,
            )
        )

    def teardown(self) -> None:
        try:
            self.all_ends()
        finally:
            self.stack.close()

    # The handlers, and the processes that they are connected in

    def handler(self, name: str, fact: str) -> Callable[..., None]:
        def handle(event: WebhookEvent, **kwargs: Any) -> None:
            self.called(event.pk, name, fact)

        if name.startswith("ordered"):
            handle = in_order(handle)
        return exactly_once(handle) if name.endswith("once") else handle

    def called(self, pk: int, name: str, fact: str) -> None:
        """Be a handler: note the call, check that it may come, and do what the script says."""
        if self.by_name:  # a run of several calls knows by the time which it has made
            self.now += timedelta(microseconds=1)
        duty = self.expected.duty(pk, name, fact)
        self.touched.add((pk, name, fact))
        if duty.state not in {"open", "unknown"}:
            self.violations.append(f"{name} was called again for event {pk}")
        known = pk in self.expected.events
        is_in_turn = duty.in_order and known and pk not in self.by_name
        earlier = self.expected.first_open(pk, name) if is_in_turn else None
        if earlier is not None:
            self.violations.append(f"{name} got event {pk} before event {earlier}")
        duty.calls += 1
        script = self.scripts.get(pk, self.script).get(name, [])
        outcome = script.pop(0) if script else "return"
        if name.endswith("once"):  # to be rolled back with whatever follows
            Group.objects.create(name=f"{pk} {name} {fact} {next(self.serial)}")
        if outcome == "return":
            duty.successes += 1
            duty.state = "done"
            return
        duty.state = "open"
        if outcome == "die":
            self.is_dead = True
            raise Died
        if outcome == "give up":
            duty.state = "gave up"
            raise GiveUp("no")
        is_old = known and self.now >= self.expected.events[pk].received_at + USUAL_TIME
        if duty.calls - duty.lost >= MAX_ATTEMPTS:
            duty.state = "used up" if outcome == "raise" or is_old else "unknown"
        elif self.expected.may_be_used_up(pk, duty):
            duty.state = "unknown"
        raise RetryLater(LATER) if outcome == "later" else ValueError(outcome)

    @contextmanager
    def process(self, name: str, dies_before: int | None = None) -> Iterator[None]:
        """Act as a process, which may die: from then on no statement of it is executed."""
        self.is_dead = False
        self.touched.clear()
        statements = count(1)

        def execute(execute: Callable[..., Any], *arguments: Any) -> Any:
            if next(statements) == dies_before:
                self.is_dead = True
            if self.is_dead:
                raise Died
            return execute(*arguments)

        with ExitStack() as stack:
            for handler in PROCESSES[name]:
                for fact in HANDLERS[handler]:
                    function = self.handler(handler, fact)
                    stack.enter_context(connected(SIGNALS[fact], **{handler: function}))
            try:
                with connection.execute_wrapper(execute):
                    yield
            except Died:
                pass
        if self.is_dead:
            connection.close()
            for key in self.touched:  # its result may be saved, or not
                duty = self.expected.duties[key]
                duty.state = "unknown"
                duty.allowed += 1
                duty.lost += 1
            for event in self.expected.events.values():
                event.was_interrupted = True
        if name == "worker":
            self.forgive_uncalled(name)

    def forgive_uncalled(self, process: str) -> None:
        """A process may run an event without the handlers that only another one knows.

        It ends nothing for them, but they have an attempt less each: they may have been removed.
        """
        for (pk, name, _), duty in self.expected.duties.items():
            if name not in PROCESSES[process] and duty.state == "open":
                duty.missed += 1
                if self.expected.may_be_used_up(pk, duty):
                    duty.state = "unknown"

    # Webhooks

    def send(
        self,
        url_name: str,
        body: str,
        contents: list[Any],
        script: dict[str, list[str]],
        process: str,
        dies_before: int | None,
    ) -> None:
        before = WebhookEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        self.script = {name: list(each) for name, each in script.items()}
        status = None
        with self.process(process, dies_before):
            response = self.client.generic(
                "POST",
                reverse(f"cellcast_django:{url_name}"),
                body,
                content_type="application/json",
                headers=authorization(),
            )
            status = response.status_code
        stored = list(WebhookEvent.objects.filter(pk__gt=before).order_by("pk"))
        if status is None:
            assert self.is_dead
            assert len(stored) in {0, len(contents)}, "half of a webhook was stored"
        else:
            assert status in {200, 400}
            assert len(stored) == len(contents), "answered, but not stored"
        for event, payload in zip(stored, contents, strict=False):
            outcome = self.expected.take(event.pk, payload, self.now)
            assert event.outcome == outcome
            self.expected.owe(event.pk, process)
            self.expected.events[event.pk].was_interrupted = self.is_dead
            self.scripts[event.pk] = self.script

    @rule(payload=payloads, script=scripts, process=processes, dies_before=deaths)
    def webhook(self, payload: Any, script: Any, process: str, dies_before: int | None) -> None:
        body = json.dumps(payload)
        self.send(URLS[payload["type"]], body, [payload], script, process, dies_before)

    @rule(
        array=st.lists(payloads, min_size=2, max_size=4),
        script=scripts,
        process=processes,
        dies_before=deaths,
    )
    def array(self, array: Any, script: Any, process: str, dies_before: int | None) -> None:
        self.send("webhook-receiver", json.dumps(array), array, script, process, dies_before)

    @rule(body=st.sampled_from(INVALID))
    def nonsense(self, body: str) -> None:
        self.send("webhook-status", body, [body], {}, "web", None)

    # Time

    @rule(seconds=st.sampled_from([1, 61, 400, 3_600, 8 * 3_600, 3 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: not self.lost)  # whose times are compared with the clock's
    @rule(minutes=st.sampled_from([1, 59, 180]))
    def clock_steps_back(self, minutes: int) -> None:
        self.now -= timedelta(minutes=minutes)

    # Runs

    @rule(process=processes, dies_before=deaths)
    def run_due(self, process: str, dies_before: int | None) -> None:
        with self.process(process, dies_before):
            handlers.run_due()

    @precondition(lambda self: run_handlers.get_backend().results)
    @rule(data=st.data(), process=processes, dies_before=deaths, is_again=st.booleans())
    def work_off(self, data: Any, process: str, dies_before: int | None, is_again: bool) -> None:
        """A worker takes a task from the queue, which may deliver it again."""
        tasks = run_handlers.get_backend().results
        task = tasks[data.draw(st.integers(0, len(tasks) - 1))]
        if not is_again:
            tasks.remove(task)
        with self.process(process, dies_before):
            run_handlers.call(*task.args)

    @initialize(by_task=st.booleans())
    def choose_who_calls_handlers(self, by_task: bool) -> None:
        self.stack.enter_context(
            override_settings(
                CELLCAST_RUN_HANDLERS="default" if by_task else "inline",
                TASKS={"default": {"BACKEND": DUMMY}},
            )
        )

    @initialize(statuses=st.lists(st.sampled_from(RANKS), min_size=2, max_size=3))
    def begin_with_reports_and_a_recovered_reply(self, statuses: list[str]) -> None:
        """Otherwise few histories get as far as taking back, or to a late webhook."""
        for number, status in enumerate(statuses):
            report = report_of(number % 2, status)
            self.send("webhook-status", json.dumps(report), [report], {}, "web", None)
        self.reply_is_lost(CONTACTS[0])
        self.recover(11, {}, "web")

    @precondition(lambda self: self.expected.events)
    @rule(data=st.data(), everyone=st.booleans(), dies_before=deaths)
    def run_again(self, data: Any, everyone: bool, dies_before: int | None) -> None:
        """Of one event or several: each once, though who ends one makes the contact's next."""
        events = st.sampled_from(sorted(self.expected.events))
        pks = data.draw(st.sets(events, min_size=1, max_size=3))
        pks = {pk for pk in pks if not self.expected.events[pk].is_redacted}
        calls = HandlerCall.objects.filter(event__in=pks)
        if not everyone:
            calls = calls.exclude(state__in=HandlerCall.ENDED_WELL)
        chosen = set(calls.values_list("event", flat=True))
        duties = [duty for pk in chosen for duty in self.expected.duties_of(pk).values()]
        for duty in duties:
            if everyone:
                duty.allowed += 1
                duty.state = "unknown"
            elif duty.state in {"gave up", "used up"}:
                duty.state = "open"
            duty.calls = duty.lost = duty.missed = 0
        self.by_name = chosen
        with self.process("web", dies_before):
            handlers.run_again(calls)
        self.by_name = set()
        if self.is_dead:  # perhaps before they had begun anew
            for duty in duties:
                duty.state = "unknown" if duty.state == "open" else duty.state

    @precondition(lambda self: self.expected.duties)
    @rule(data=st.data())
    def skip(self, data: Any) -> None:
        pk, name, fact = data.draw(st.sampled_from(sorted(self.expected.duties)))
        call = HandlerCall.objects.filter(event=pk, handler=name, signal=SIGNALS[fact].name)
        duty = self.expected.duties[pk, name, fact]
        before, duty.state = duty.state, "skipped"  # what waited for it is run at once
        with self.process("web"):
            if not handlers.skip(call, username="ruth"):
                duty.state = before

    @rule()
    def read_again(self) -> None:
        for event in WebhookEvent.objects.filter(outcome="invalid"):
            with self.process("web"):
                receiving.read_again(event)

    # People

    @rule(contact=st.sampled_from(CONTACTS))
    def opt_out(self, contact: str) -> None:
        opt_outs.opt_out(contact, username="ruth")
        self.expected.decisions[contact] += 1
        self.expected.opted_out.add(contact)

    @rule(contact=st.sampled_from(CONTACTS))
    def opt_in(self, contact: str) -> None:
        was_opted_out = contact in self.expected.opted_out
        assert opt_outs.opt_in(contact, username="ruth") is was_opted_out
        self.expected.decisions[contact] += was_opted_out
        self.expected.opted_out.discard(contact)

    @rule(number=st.integers(0, 2))
    def record(self, number: int) -> None:
        cellcast_id, reference = f"{number:024x}", f"booking-{number}"
        receiver = CONTACTS[number % len(CONTACTS)]
        Message.objects.record_sent(
            cellcast_id, receiver=receiver, body="See you at nine?", reference=reference
        )
        self.expected.references[cellcast_id] = reference
        _ = self.expected.histories[cellcast_id]

    @precondition(lambda self: self.expected.replies)
    @rule(data=st.data(), by_answer=st.booleans())
    def handle(self, data: Any, by_answer: bool) -> None:
        """Code answers a reply or marks it: that one is done, and no other of its contact."""
        reply = data.draw(st.sampled_from(sorted(self.expected.replies)))
        message = Message.objects.inbound().get(**dict(zip(IDENTITY, reply, strict=True)))
        self.expected.handled.add(reply)
        if not by_answer:
            message.mark_handled(username="ruth")
            return
        cellcast_id, reference = f"answer {next(self.serial)}", "an answer"
        Message.objects.record_sent(
            cellcast_id, receiver=message.contact, reference=reference, answers=message
        )
        self.expected.references[cellcast_id] = reference
        _ = self.expected.histories[cellcast_id]

    @rule(days=st.sampled_from([0, 0, 1, 3]), redact=st.booleans())
    def prune(self, days: int, redact: bool) -> None:
        """Old rows go, and the oracle forgets them: what comes again is new."""
        self.now += timedelta(seconds=1)  # so that what has just come is older
        before = self.now - timedelta(days=days)
        unfinished = {
            pk
            for (pk, _, _), duty in self.expected.duties.items()
            if duty.state in {"open", "gave up", "used up"}
        }
        prune(Selection(before=before, redact=redact))
        kept = set(WebhookEvent.objects.values_list("pk", flat=True))
        assert unfinished <= kept, "what is not finished was pruned"
        emptied = WebhookEvent.objects.filter(body="", pk__in=unfinished)
        assert not emptied.exists(), "what is not finished was redacted"
        for pk in self.expected.events.keys() - kept:
            assert self.expected.events[pk].received_at < before
            del self.expected.events[pk]
            for key in [key for key in self.expected.duties if key[0] == pk]:
                del self.expected.duties[key]
        for sources in self.expected.sources():
            if gone := {pk for pk in sources if pk not in kept}:
                sources -= gone
                sources.add(None)
        for pk in WebhookEvent.objects.filter(body="").values_list("pk", flat=True):
            self.expected.events[pk].body = ""
            self.expected.events[pk].is_redacted = True
        stored = self.stored_replies()
        self.expected.replies = {
            reply: sources for reply, sources in self.expected.replies.items() if reply in stored
        }
        sent = set(Message.objects.outbound().values_list("cellcast_id", flat=True))
        for cellcast_id in self.expected.histories.keys() - sent:
            del self.expected.histories[cellcast_id]
            self.expected.references.pop(cellcast_id, None)
        for cellcast_id in (
            Message.objects.outbound().filter(receiver="").values_list("cellcast_id", flat=True)
        ):
            self.expected.references.pop(cellcast_id, None)

    @precondition(lambda self: self.expected.can_be_taken_back())
    @rule(data=st.data())
    def take_back(self, data: Any) -> None:
        """Events that were forged, or of a test, go with all that only they have made."""
        candidates = self.expected.can_be_taken_back()
        first = data.draw(st.integers(0, len(candidates) - 1))
        pks = set(candidates[first : first + data.draw(st.sampled_from([6, 3, 1]))])
        take_back(pks)
        self.expected.take_back(pks)
        for lost in self.lost.values():  # without its late webhook a reply is as the API has it
            left = self.expected.replies.get(lost.as_sent, {None})
            events = WebhookEvent.objects.filter(pk__in=[pk for pk in left if pk])
            if None not in left and not events.exclude(endpoint="api").exists():
                self.expected.rename(lost.as_sent, lost.as_listed)

    # What webhooks did not bring

    @rule(contact=st.sampled_from(CONTACTS))
    def reply_is_lost(self, contact: str) -> None:
        text = f"lost {next(self.serial)}"
        self.api.add_reply(self.now, contact, text)
        self.lost[text] = Lost(text, contact, self.now)

    @rule(number=st.integers(0, 2), status=st.sampled_from(["sent", "failed", "delivered"]))
    def status_is_listed(self, number: int, status: str) -> None:
        receiver = CONTACTS[number % len(CONTACTS)]
        self.api.add_report(f"{number:024x}", self.now, status=status, receiver=receiver)

    @rule(contact=st.sampled_from(CONTACTS))
    def opt_out_is_listed(self, contact: str) -> None:
        if contact not in [item["number"] for item in self.api.opt_outs]:
            self.api.add_opt_out(contact)

    def may_be_late(self) -> list[str]:
        """The texts of the lost replies whose webhooks may still come."""
        return [
            lost.text
            for lost in self.lost.values()
            if lost.at <= self.now < lost.at + timedelta(hours=20)
            and lost.as_sent not in self.expected.replies
        ]

    @precondition(lambda self: self.may_be_late())
    @rule(data=st.data(), script=scripts, process=processes, dies_before=deaths)
    def webhook_is_late(
        self, data: Any, script: Any, process: str, dies_before: int | None
    ) -> None:
        """A reply's webhook comes after all: as news, or about what recovery has stored."""
        lost = self.lost[data.draw(st.sampled_from(self.may_be_late()))]
        names = ("_id", "sender", "receiver", "message")
        payload = reply_payload(**dict(zip(names, lost.as_sent, strict=True)))
        if was_recovered := lost.as_listed in self.expected.replies:
            self.expected.rename(lost.as_listed, lost.as_sent)  # it fills in what no list says
        before = len(self.expected.events)
        body = json.dumps(payload)
        self.send("webhook-receiver", body, [payload], script, process, dies_before)
        if was_recovered and len(self.expected.events) == before:
            self.expected.rename(lost.as_sent, lost.as_listed)

    @precondition(lambda self: self.api.replies or self.api.reports or self.api.opt_outs)
    @rule(minutes=st.sampled_from([0, 11]), script=scripts, process=processes)
    def recover(self, minutes: int, script: Any, process: str) -> None:
        """A person or a schedule asks Cellcast's API, perhaps not for what is still on its way."""
        self.now += timedelta(minutes=minutes)
        before = WebhookEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        self.script = {name: list(each) for name, each in script.items()}
        found = []
        with self.process(process):
            found = recover()
        assert not any(each.error for each in found)
        for event in WebhookEvent.objects.filter(pk__gt=before).order_by("pk"):
            item = event.payload
            if "number" in item:
                never_before = not self.expected.decisions[item["number"]]
                assert never_before, "recovery undid what a person had decided"
                payload = {"type": "optout", "contact": item["number"]}
            elif "_id" in item:
                payload = item | {"type": "send"}
            else:
                payload = {"type": "receive", "_id": "", "sender": item["from"], "receiver": ""}
                payload["message"] = item["body"]
                assert self.lost[item["body"]].as_sent not in self.expected.replies
            outcome = self.expected.take(event.pk, payload, self.now)
            assert event.outcome == outcome
            is_text = payload["type"] == "send" and payload["_id"] not in self.expected.references
            assert outcome == "stored" or is_text, "recovery brought what was known"
            self.expected.owe(event.pk, process)
            self.expected.events[event.pk].was_interrupted = self.is_dead
            self.scripts[event.pk] = self.script
        if self.is_dead:
            return
        with self.process(process):
            assert not any(each.error for each in recover())
        assert WebhookEvent.objects.count() == len(self.expected.events), "recovered twice"
        for item in self.api.reports:
            if self.is_recent(datetime.fromisoformat(item["createdAt"])):
                assert item["status"] in self.expected.histories[item["_id"]]
        for item in self.api.opt_outs:
            assert self.expected.decisions[item["number"]]
        for lost in self.lost.values():
            if self.is_recent(lost.at) and lost.at <= self.now - timedelta(minutes=10):
                is_stored = {lost.as_listed, lost.as_sent} & self.expected.replies.keys()
                assert is_stored, "a lost reply was not recovered"

    def is_recent(self, at: datetime) -> bool:
        return self.now - timedelta(days=2) < at <= self.now

    # The promises

    @invariant()
    def promises_hold(self) -> None:
        self.handlers_are_called_as_promised()
        self.handlers_succeed_once()
        self.statuses_are_the_highest_of_their_histories()
        self.replies_are_kept_once()
        self.who_waits_for_an_answer_is_listed()
        self.what_was_recorded_keeps_its_reference()
        self.opt_outs_are_known_and_proved()
        self.nothing_is_thrown_away()
        assert list(find_broken()) == []

    def handlers_are_called_as_promised(self) -> None:
        assert not self.violations

    def statuses_are_the_highest_of_their_histories(self) -> None:
        expected = {each: set(history) for each, history in self.expected.histories.items()}
        stored: dict[str, set[str]] = {cellcast_id: set() for cellcast_id in expected}
        changes = StatusChange.objects.filter(message__direction="outbound")
        for cellcast_id, status in changes.values_list("message__cellcast_id", "status"):
            assert status not in stored[cellcast_id], "a status stands twice in a history"
            stored[cellcast_id].add(status)
        assert stored == expected
        for message in Message.objects.outbound():
            highest = max(stored[message.cellcast_id], key=RANKS.index, default="")
            assert message.status == highest

    def stored_replies(self) -> list[tuple[str, ...]]:
        kept = Message.objects.inbound().exclude(contact="")  # the others were redacted
        return list(kept.values_list(*IDENTITY))

    def replies_are_kept_once(self) -> None:
        assert sorted(self.stored_replies()) == sorted(self.expected.replies)

    def who_waits_for_an_answer_is_listed(self) -> None:
        listed = Message.objects.unhandled().exclude(contact="")
        waiting = self.expected.replies.keys() - self.expected.handled
        assert set(listed.values_list(*IDENTITY)) == waiting

    def what_was_recorded_keeps_its_reference(self) -> None:
        for cellcast_id, reference in self.expected.references.items():
            assert Message.objects.outbound().get(cellcast_id=cellcast_id).reference == reference

    def opt_outs_are_known_and_proved(self) -> None:
        for contact in CONTACTS:
            assert opt_outs.is_opted_out(contact) is (contact in self.expected.opted_out)
            kinds = list(
                OptOutChange.objects.filter(opt_out__contact=contact)
                .order_by("pk")
                .values_list("kind", flat=True)
            )
            assert len(kinds) == self.expected.decisions[contact]
            assert "ended ended" not in " ".join(["ended", *kinds]), "ended without a beginning"

    def nothing_is_thrown_away(self) -> None:
        stored = dict(WebhookEvent.objects.values_list("pk", "body"))
        assert stored.keys() == self.expected.events.keys()
        invalid = {pk for pk, event in self.expected.events.items() if event.is_invalid}
        assert set(WebhookEvent.objects.invalid().values_list("pk", flat=True)) == invalid
        for pk, event in self.expected.events.items():
            if event.body:
                assert stored[pk] == event.body.replace("\x00", "\\x00")

    def handlers_succeed_once(self) -> None:
        written = Counter(
            tuple(name.split()[:3]) for name in Group.objects.values_list("name", flat=True)
        )
        for (pk, name, fact), duty in self.expected.duties.items():
            assert duty.successes <= duty.allowed
            if name.endswith("once"):
                rows = written[str(pk), name, fact]
                if duty.state != "unknown":
                    assert rows >= (duty.state == "done")
                assert rows <= max(duty.successes, duty.state == "done")

    def all_ends(self) -> None:
        """Nothing waits for ever: whatever handlers still do, each duty ends."""
        self.script = {}
        for _ in range(50):
            self.now += LONG
            with self.process("web"):
                handlers.run_due()
            if not WebhookEvent.objects.pending().exists():
                break
        assert not WebhookEvent.objects.pending().exists(), "something waits for ever"
        for key, duty in self.expected.duties.items():
            assert duty.state in FINAL, f"{key} was never finished"
        self.handlers_are_called_as_promised()
        self.handlers_succeed_once()


@pytest.mark.exhaustive
@pytest.mark.django_db(transaction=True)
def test_promises_hold_in_any_history() -> None:
    examples = settings().max_examples
    if connection.vendor != "sqlite":  # of the same ones, all of which SQLite has
        examples //= 2
    chosen = settings(suppress_health_check=list(HealthCheck), max_examples=examples)
    run_state_machine_as_test(Histories, settings=chosen)
