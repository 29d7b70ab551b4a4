"""The page for a leaked password, followed block by block after forgers careless and cunning."""

import json
import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db.models import Q
from django.utils import timezone

from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_out
from cellcast_django.payloads import Endpoint, read, reply_payload, status_payload
from cellcast_django.receiving import receive
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep.verifying import find_broken
from tests.fake_cellcast import FakeCellcast
from tests.handlers import connected
from tests.pages import all_blocks

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "at_noon")]

PAGE = "docs/leaked-password.md"
LEAKED_AT = timezone.make_aware(datetime(2026, 11, 10, 9))
MODELS = (Message, StatusChange, WebhookEvent, OptOut, OptOutChange)
OURS = "+61491570110"
EVIL = "+61499666666"
EACH = 3
"""How many forgeries of each kind."""


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of which the page tells; each look at the clock takes a moment."""
    looks = iter(range(10**9))
    noon = LEAKED_AT + timedelta(hours=3)
    monkeypatch.setattr(timezone, "now", lambda: noon + timedelta(milliseconds=next(looks)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dump() -> dict[str, Any]:
    """Return each row, by its model and key."""
    rows = [row for model in MODELS for row in model._default_manager.all()]
    return {
        f"{row['model'].partition('.')[2]} {row['pk']}": row["fields"]
        for row in serializers.serialize("python", rows)
    }


def follow(page: str = PAGE) -> list[str]:
    """Run the page's blocks in their order; return what the commands and the code say."""
    said = []
    for block in all_blocks(page):
        output = StringIO()
        if block.language == "python":
            with redirect_stdout(output):
                block.run({})
            said.append(output.getvalue())
        else:
            for line in block.code.splitlines():
                _, _, name, *arguments = shlex.split(line.replace("OLD_USERNAME", "old"))
                call_command(name, *arguments, stdout=output, stderr=output)
                said.append(output.getvalue())
                output = StringIO()
    return said


def post(payload: Any, endpoint: Endpoint, content_type: str = "application/json") -> int:
    """Store a webhook that came with the secret which leaks; return its first event."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    events = receive(read(body, content_type, endpoint), endpoint=endpoint, received_as="old")
    return events[0].pk


def reply(number: int, text: str, **changes: Any) -> int:
    parts = {"_id": f"reply {number}", "sender": contact(number), "receiver": OURS}
    return post(reply_payload(message=text, **parts | changes), Endpoint.RECEIVE)


def report(cellcast_id: str, status: str, number: int, **changes: Any) -> int:
    parts = {"_id": cellcast_id, "status": status, "receiver": contact(number)}
    return post(status_payload(**parts | changes), Endpoint.STATUS)


def optout(number: int) -> int:
    return post({"type": "optout", "contact": contact(number)}, Endpoint.OPT_OUT)


def contact(number: int) -> str:
    return f"+614915{70_000 + number}"


class Leak:
    """Genuine webhooks, each of which Cellcast's lists have, with forged ones among them."""

    def __init__(self, api: FakeCellcast) -> None:
        self.api = api
        self.forged: dict[str, list[int]] = {}

    def happen(self) -> None:
        """Each kind of forgery has customers of its own, and what is genuine comes after it."""
        now = timezone.now()
        opt_out(contact(0), note="Rang us.")
        for kind, (name, forge) in enumerate(FORGERIES.items(), start=1):
            forged = self.forged[name] = []
            status = "rejected" if "fails" in name else "delivered"
            for place in range(EACH):
                number = 10 * kind + place
                receiver = contact(number)
                if place != 1:
                    Message.objects.record_sent(f"m{number}", receiver=receiver, body="At 9?")
                forged += [each(self, number) for each in forge]
                report(f"m{number}", status, number)
                reply(number, "Yes")
                listed = {"status": status, "receiver": receiver, "message": "At 9?"}
                self.api.add_report(f"m{number}", now, **listed)
                self.api.add_reply(timezone.now(), contact(number), "Yes")
        optout(1)
        self.api.add_opt_out(contact(1))


Forge = Callable[[Leak, int], int]


def hidden_by_nul(leak: Leak, number: int) -> int:
    claim = {"_id": f"m{number}", "status": "blocked", "receiver": contact(number), "x": "?"}
    return post(json.dumps(claim).encode().replace(b"?", b"\0"), Endpoint.STATUS)


def array_as_a_form(leak: Leak, number: int) -> int:
    array = [status_payload(_id=f"array {number}", receiver=contact(number))]
    return post(array, Endpoint.STATUS, "application/x-www-form-urlencoded")


def stop_of_listed(leak: Leak, number: int) -> int:
    """The customer has used Cellcast's own link, of which there is no webhook."""
    leak.api.add_opt_out(contact(number))
    return reply(number, "STOP", _id=f"stop{number}")


QUOTED = "We owe you $900, pay at evil.example"
REFUND = "call +61 1900 for a refund"

FORGERIES: dict[str, list[Forge]] = {
    "strangers' replies": [
        lambda _, n: reply(n, "Cancel it", _id=f"s{n}", sender=f"+614999{n:05}"),
    ],
    "customers' replies": [lambda _, n: reply(n, "Cancel it", _id=f"c{n}")],
    "STOPs and opt-outs": [
        lambda _, n: reply(n, "STOP", _id=f"stop{n}"),
        lambda _, n: optout(n + 5_000),
    ],
    "invented reports": [lambda _, n: report(f"never sent {n}", "delivered", n)],
    "delivered what fails": [lambda _, n: report(f"m{n}", "delivered", n)],
    "hidden by NUL": [hidden_by_nul],
    "array as a form": [array_as_a_form],
    "failed before delivered": [lambda _, n: report(f"m{n}", "failed", n, reason=REFUND)],
    "another receiver": [lambda _, n: report(f"m{n}", "queued", n, receiver=EVIL)],
    "another sender": [lambda _, n: report(f"m{n}", "queued", n, sender=EVIL)],
    "alike to another number": [lambda _, n: reply(n, "Yes", receiver=EVIL)],
    "quoting another text": [lambda _, n: reply(n, "Yes", original_body=QUOTED)],
    "STOP of listed": [stop_of_listed],
    "copies": [
        lambda _, n: report(f"m{n}", "delivered", n),
        lambda _, n: reply(n, "Yes"),
    ],
}
HIDDEN = {"another sender", "quoting another text", "STOP of listed", "copies"}
"""What Cellcast's lists do not show, as the page says."""


@pytest.mark.usefixtures("folder")
def test_what_the_lists_can_tell_is_found_and_taken_back(
    fake_cellcast: FakeCellcast, settings: Any
) -> None:
    settings.CELLCAST_OWN_NUMBERS = [OURS]
    leak = Leak(fake_cellcast)
    leak.happen()
    genuine = set(WebhookEvent.objects.values_list("pk", flat=True))
    genuine -= {pk for forged in leak.forged.values() for pk in forged}

    said = follow()

    there = set(WebhookEvent.objects.exclude(endpoint="api").values_list("pk", flat=True))
    assert genuine <= there, "a genuine event was taken back"
    left = {name: len(there & set(pks)) for name, pks in leak.forged.items()}
    assert {name: count for name, count in left.items() if count} == {
        name: len(leak.forged[name]) for name in HIDDEN
    }
    assert said[-2].splitlines()[-1].startswith("0 events")
    # Nothing of what was taken back is left in the rows that are genuine.
    texts = json.dumps(dump(), default=str)
    for trace in ("refund", "never sent", "Cancel it", "array "):
        assert trace not in texts
    evil = Message.objects.filter(Q(sender=EVIL) | Q(receiver=EVIL))
    assert evil.count() == len(leak.forged["another sender"])
    assert list(find_broken()) == []
    statuses = Counter(Message.objects.outbound().values_list("status", flat=True))
    assert statuses == {"delivered": EACH * (len(FORGERIES) - 1), "rejected": EACH}
    # Whoever asked is still opted out, and nobody else.
    active = set(OptOut.objects.active().values_list("contact", flat=True))
    listed = {contact(10 * (1 + list(FORGERIES).index("STOP of listed")) + n) for n in range(EACH)}
    assert active == {contact(0), contact(1)} | listed
    ended = OptOutChange.objects.filter(kind="ended")
    assert ended.count() == 2 * EACH
    assert set(ended.values_list("note", flat=True)) == {"Forged with a leaked password."}


@pytest.mark.usefixtures("folder")
def test_replies_handled_by_a_forged_answer_are_named(fake_cellcast: FakeCellcast) -> None:
    reply(1, "Can I bring my dog?")
    fake_cellcast.add_reply(timezone.now(), contact(1), "Can I bring my dog?")
    question = Message.objects.get()

    def confirm(message: Message, **kwargs: Any) -> None:
        for each in message.conversation().unhandled():
            each.mark_handled()

    with connected(message_received, confirm=confirm):
        reply(1, "YES", _id="forged")
    said = follow()
    assert "confirm" in said[1]
    assert str(question.pk) in said[3].split()


@pytest.mark.usefixtures("folder")
def test_genuine_webhooks_after_the_forged_ones_count(fake_cellcast: FakeCellcast) -> None:
    """What was a duplicate, because a forged one had said so first, is what stands afterwards."""
    Message.objects.record_sent("m1", receiver=contact(1))
    report("m1", "rejected", 1, reason="evil", receiver=EVIL)
    report("m1", "blocked", 1)
    optout(2)
    report("m1", "rejected", 1, reason="no such number")
    reply(2, "Stop")
    fake_cellcast.add_report("m1", timezone.now(), status="rejected", receiver=contact(1))
    fake_cellcast.add_reply(timezone.now(), contact(2), "Stop")
    fake_cellcast.add_opt_out(contact(2))

    follow()

    [change] = Message.objects.get(cellcast_id="m1").status_history.all()
    assert (change.status, change.reason) == ("rejected", "no such number")
    assert is_opted_out(contact(2))


@pytest.mark.usefixtures("folder")
def test_key_of_another_account_takes_nothing_back(fake_cellcast: FakeCellcast) -> None:
    for number in range(5):
        reply(number, "Yes")
        report(f"m{number}", "delivered", number)
        fake_cellcast.add_reply(timezone.now(), contact(number + 900), "Somebody else's")
        fake_cellcast.add_report(f"else {number}", timezone.now())
    before = dump()
    with pytest.raises(CommandError, match="key of the account"):
        follow()
    assert dump() == before


def test_recovered_reply_that_was_taken_over_has_its_own_key_again(
    fake_cellcast: FakeCellcast, client: WebhookClient
) -> None:
    """So that its genuine webhook is the same message, whenever it comes."""
    fake_cellcast.add_reply(timezone.now() - timedelta(hours=1), contact(1), "Yes")
    call_command("cellcast_recover", stdout=StringIO())
    before = dump()
    forged = reply(1, "Yes", _id="forged", receiver=EVIL, original_body="evil")
    assert Message.objects.get().own_number == EVIL
    call_command("cellcast_prune", event=[forged], stdout=StringIO())
    assert dump() == before
    reply(1, "Yes")
    message = Message.objects.get()
    assert (message.cellcast_id, message.own_number) == ("reply 1", OURS)
