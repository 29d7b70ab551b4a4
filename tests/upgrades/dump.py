"""Write the rows that the present version makes: ``python -m tests.upgrades.dump 1.0.0``.

At each release whose schema is new. The file stays as it is for ever: it is what hosts of that
version have in their databases.
"""

# ruff: noqa: E402 - models can be imported once Django has been set up
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import django

os.environ["TEST_DATABASE_URL"] = "sqlite://:memory:"
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.apps import apps
from django.core import serializers
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from cellcast_django.models import Claim, Message
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient, reply_payload

APP = "cellcast_django"
FOLDER = Path(__file__).parent


def fail(message: Message, **kwargs: object) -> None:
    """Leave an event pending, as a handler that raises does."""
    if message.body == "Fail":
        raise ConnectionError("the shop is closed")


def receive_something_of_each_kind() -> None:
    """Send what makes a row of each model, in each of its states that a webhook can bring about."""
    message_received.connect(fail)
    client = WebhookClient()
    Message.objects.record_sent("66b5b93b1e2c012dfe964000", receiver="0400 000 001", body="At 9?")
    client.status(status="failed", reason="Absent subscriber")
    client.status(status="delivered")
    client.status(status="expired")
    client.status(status="delivered")
    client.status(_id="an id that is none", status="on-its-way")
    client.reply(message="Yes, thank you 👍")
    client.reply(message="Fail")
    client.reply(message="Here it is", media=[{"url": "https://media.example.com/1.jpg"}])
    client.reply(message="STOP", sender="+61491570006")
    client.opt_out()
    client.webhook(b'{"type": "receive"', "receive")
    client.webhook([reply_payload(message="In an array"), {"_id": "1"}], "status")
    Claim.take("a form", timedelta(days=1))
    call_command("cellcast_run_handlers", verbosity=0)
    message_received.disconnect(fail)


def main(version: str) -> None:
    """Write the file of the version."""
    call_command("migrate", verbosity=0)
    receive_something_of_each_kind()
    [(_, migration)] = MigrationLoader(connection).graph.leaf_nodes(APP)
    rows = [
        row
        for model in apps.get_app_config(APP).get_models()
        for row in json.loads(serializers.serialize("json", model._default_manager.order_by("pk")))
    ]
    text = json.dumps({"migration": migration, "rows": rows}, indent=1, ensure_ascii=False)
    text = text.replace(f"{FOLDER.parents[1]}/", "")  # where a handler failed
    (FOLDER / f"{version}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
