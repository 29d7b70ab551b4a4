"""The script of the docs that describes a live account's webhooks, and gives nobody away."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.testing import WebhookClient, mms_payload
from tests.pages import ROOT

pytestmark = pytest.mark.django_db

SCRIPT = ROOT / "docs" / "what_cellcast_sends.py"
NAME, TEXT, NUMBER = "Okonkwo", "my results", "+61491570006"


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Run it as ``manage.py shell`` runs what it is given."""

    def run() -> str:
        call_command("shell", command=SCRIPT.read_text("utf-8"))
        return capsys.readouterr().out

    return run


def section(text: str, start: str) -> str:
    return re.split(r"\n\n(?=\S)", text[text.index(start) :])[0]


def test_report_says_what_came_and_in_which_shape(
    client: WebhookClient, report: Callable[[], str]
) -> None:
    sent = Message.objects.record_sent(
        "66b5b93b1e2c012dfe964001", receiver=NUMBER, reference="booking-7"
    )
    client.status(_id=sent.cellcast_id, receiver=NUMBER, customString="booking-7")
    client.status(_id=sent.cellcast_id, receiver=NUMBER, status="sent", customString="booking-8")
    client.status(_id=sent.cellcast_id, receiver=NUMBER, status="sent", customString="booking-8")
    client.reply(_id=sent.cellcast_id, reply="Yes", message="Coming?", sender="0491 570 006")
    client.reply(_id="5f64c8a0-5f64-4f64-8f64-5f64c8a05f64", message="No")
    client.reply(**mms_payload(message=""))
    client.webhook([{"type": "optout", "contact": "491570006"}] * 2, "opt_out")
    WebhookEvent.objects.filter(outcome="duplicate", kind="status").update(
        received_at=timezone.now() + timedelta(minutes=5)
    )

    text = report()

    status = text[text.index("== Status URL: 3 events") : text.index("== Opt-Out URL: 2 events")]
    assert "3 *_id: ObjectId (24 hex digits) 3" in status
    assert "3 *receiver: number +61… of 11 digits 3" in status
    assert "3  customString: text 3" in status
    assert "2  sent" in section(status, "Statuses, as written")
    assert "3  application/json" in section(status, "Content types")
    assert "1  several" in section(text[text.index("== Opt-Out URL") :], "At one moment")
    replies = text[text.index("== Replies: 3") :]
    assert "1  reply" in section(replies, "The text stood under")
    assert "1  the id of a message of ours" in section(replies, "The id was")
    assert "1  UUID" in section(replies, "Forms of ids")
    echoed = section(text, "Our own text")
    assert "1  yes" in echoed and "2  another text" in echoed
    assert "1  delivered: median " in section(text, "Time from the submission")
    assert "== Copies of a webhook: 2: median" in text and "longest 5 minutes" in text


PLANTED: list[Any] = [
    {"sender": NUMBER, "receiver": NUMBER, "message": TEXT, "_id": "7f00aa11bb22cc33dd44ee55"},
    {NAME: NAME, "_id": "id-of-Okonkwo", "message": NAME, "sender": NAME, "status": NAME},
    {NUMBER: NUMBER, "my results": [{"name": NAME}], "media": [f"https://x.example/{NAME}"]},
    {"to": {NAME: NUMBER}, "type": "send", "status": TEXT, "_id": 61491570006},
    {"reply": f'{{"message": "{TEXT}"}}', "_id": "00000000-0000-4000-8000-000061491570"},
    NAME,
    [TEXT, NUMBER],
]


def test_report_gives_nobody_away(client: WebhookClient, report: Callable[[], str]) -> None:
    """Whatever a webhook has, and wherever it has it; a key that only people could type, too."""
    Message.objects.record_sent(
        "7f00aa11bb22cc33dd44ee55", receiver=NUMBER, body=TEXT, reference=NAME
    )
    for endpoint in ("receive", "status", "opt_out"):
        for payload in [*PLANTED, PLANTED[1]]:  # a retry is no second body
            client.webhook(payload, endpoint, content_type=f"text/{NAME}; name={NUMBER}")
        client.webhook(f"{NAME}={NUMBER}".encode(), endpoint)
        for number in range(2):  # such a key is nobody's
            client.webhook({f"{NUMBER[-8:]}": TEXT, "_id": str(number)}, endpoint)
        client.webhook([{"_id": TEXT, "status": NAME, "type": NUMBER}], endpoint)
    secret = [NAME, TEXT, "results", "booking", "61491", "570006", "0491", "491570", "x.example"]
    secret += ["7f00aa11bb22cc33dd44ee55", "id-of", "8000-0000"]
    stored = " ".join(WebhookEvent.objects.values_list("body", flat=True))
    assert all(each in stored for each in (NAME, TEXT, NUMBER))

    text = report()

    assert [each for each in secret if each.lower() in text.lower()] == []
    assert "(others)" in text
