"""The page for a leaked password, followed word by word after a leak among genuine webhooks."""

import shlex
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.utils import timezone

from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.testing import WebhookClient, opt_out_payload
from tests.fake_cellcast import FakeCellcast
from tests.pages import all_blocks

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

PAGE = "docs/leaked-password.md"
ANNA, BEN, CLEO, DORA = (f"+6149157015{digit}" for digit in range(6, 10))
MODELS = (Message, StatusChange, WebhookEvent, OptOut, OptOutChange)


def dump() -> dict[str, dict[str, Any]]:
    """Return each row, by its model and key, but not where the inbox puts notes for itself."""
    rows = [row for model in MODELS for row in model._default_manager.all()]
    dumped: dict[str, dict[str, Any]] = {}
    for row in serializers.serialize("python", rows):
        dumped[f"{row['model'].partition('.')[2]} {row['pk']}"] = row["fields"]
    return dumped


def post(response: Any) -> None:
    assert response.status_code == 200


def genuine_day(client: WebhookClient, api: FakeCellcast) -> None:
    """Webhooks of Cellcast's, each of which its lists confirm."""
    now = timezone.now()
    Message.objects.record_sent("m1", receiver=ANNA, body="At 9?", reference="booking-1")
    Message.objects.record_sent("m2", receiver=BEN, body="At 10?", sender="cellcast")
    post(client.status(_id="m1", receiver=ANNA, status="sent"))
    post(client.status(_id="m2", receiver=BEN, status="rejected", reason="no such number"))
    post(client.status(_id="m3", receiver=CLEO, status="sent"))
    post(client.reply(_id="m1", sender=ANNA, message="Yes", original_body="At 9?"))
    post(client.reply(_id="r2", sender=BEN, message="Stop"))
    post(client.opt_out(contact=CLEO))
    for cellcast_id, status in (("m1", "sent"), ("m2", "rejected"), ("m3", "sent")):
        api.add_report(
            cellcast_id, now, status=status, message=""
        )  # with a text, it would come too
    api.add_reply(now, ANNA, "Yes")
    api.add_reply(now, BEN, "Stop")
    api.add_opt_out(CLEO)


def forge_everything(client: WebhookClient) -> None:
    """What somebody does with the password, in between."""
    post(client.status(_id="m1", receiver=ANNA, status="delivered"))
    post(client.status(_id="m2", receiver=ANNA, status="blocked", sender="+61499666666"))
    post(client.status(_id="m3", receiver=DORA, status="blocked"))
    post(client.status(_id="never-sent", receiver=ANNA))
    post(client.reply(_id="f1", sender=ANNA, message="Cancel it", receiver="+61499666666"))
    post(client.reply(_id="f2", sender=ANNA, message="STOP"))
    post(client.webhook([opt_out_payload(contact=f"49157{n:04}") for n in range(99)], "opt_out"))
    post(client.opt_out(contact=BEN))


def follow(page: str) -> list[str]:
    """Run the page's blocks in their order; return what the commands say."""
    said = []
    for block in all_blocks(page):
        if block.language == "python":
            block.run({})
        elif block.language == "sh":
            for line in block.code.splitlines():
                _, _, name, *arguments = shlex.split(line.replace("OLD_USERNAME", "cellcast"))
                output = StringIO()
                call_command(name, *arguments, stdout=output, stderr=output)
                said.append(output.getvalue())
    return said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_leak_is_found_and_taken_back(client: WebhookClient, fake_cellcast: FakeCellcast) -> None:
    genuine_day(client, fake_cellcast)
    before = dump()
    forge_everything(client)
    assert Message.objects.outbound().get(cellcast_id="m1").status == "delivered"
    assert is_opted_out(ANNA)
    fake_cellcast.add_reply(timezone.now() - timedelta(minutes=30), DORA, "refused meanwhile")

    follow(PAGE)

    after = dump()
    changed = {key for key in before if after.get(key) != before[key]}
    assert changed == set()
    assert not Message.objects.filter(cellcast_id="never-sent").exists()
    assert Message.objects.inbound().filter(contact=ANNA).count() == 1
    # Whoever asked is still opted out, and nobody else.
    active = set(OptOut.objects.active().values_list("contact", flat=True))
    assert active == {BEN, CLEO}
    ended = OptOutChange.objects.filter(kind="ended")
    assert ended.count() == 100
    assert set(ended.values_list("note", flat=True)) == {"Forged with a leaked password."}
    # Only what Cellcast sent while the door was shut is new.
    assert Message.objects.get(contact=DORA).body == "refused meanwhile"
    new = WebhookEvent.objects.exclude(endpoint="api")
    assert {f"webhookevent {event.pk}" for event in new} <= set(before)


@pytest.mark.usefixtures("folder")
def test_genuine_webhooks_after_the_forged_ones_count(
    client: WebhookClient, fake_cellcast: FakeCellcast
) -> None:
    """What was a duplicate, because a forged one had said so first, is what stands afterwards."""
    now = timezone.now()
    Message.objects.record_sent("m1", receiver=ANNA)
    post(client.status(_id="m1", receiver=ANNA, status="rejected", reason="evil"))
    post(client.status(_id="m1", receiver=ANNA, status="blocked"))
    post(client.opt_out(contact=BEN))
    post(client.status(_id="m1", receiver=ANNA, status="rejected", reason="no such number"))
    post(client.reply(sender=BEN, message="Stop"))
    fake_cellcast.add_report("m1", now, status="rejected")
    fake_cellcast.add_reply(now, BEN, "Stop")

    follow(PAGE)

    message = Message.objects.get(cellcast_id="m1")
    assert message.status == "rejected"
    assert [change.status for change in message.status_history.all()] == ["rejected"]
    assert is_opted_out(BEN)


@pytest.mark.usefixtures("folder")
def test_check_at_the_end_finds_nothing_more(
    client: WebhookClient, fake_cellcast: FakeCellcast
) -> None:
    genuine_day(client, fake_cellcast)
    forge_everything(client)
    said = follow(PAGE)
    first, last = said[1], said[-2]
    assert len(first.splitlines()) > 100
    heading, count = last.splitlines()
    assert heading.split()[0] == "id"
    assert count.startswith("0 events")
