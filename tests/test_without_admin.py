"""Projects as ``startproject`` makes them, without the admin, users, sessions, content types."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps

from cellcast_django.templatetags import cellcast_texts

APPS = ("admin", "messages", "sessions", "auth", "contenttypes")
"""In the order in which a project can leave them out."""

USED = """
import json, sys
from datetime import timedelta
from io import StringIO
from pathlib import Path

import django

django.setup()

from django.apps import apps
from django.core.management import CommandError, call_command
from django.dispatch import receiver
from django.test import Client

from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.sending import send
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient

told = []

@receiver(message_received)
def hear(message, **kwargs):
    told.append(message.body)



call_command("check", "--fail-level=WARNING")
call_command("migrate", verbosity=0)
call_command("makemigrations", "--check", "--dry-run", verbosity=0)

client = WebhookClient()
responses = [client.reply(message="YES"), client.status(), client.reply(message="STOP")]
responses.append(client.opt_out(contact="0491 570 157"))
assert [each.status_code for each in responses] == [200] * 4, responses
assert client.webhook(b"{", "receive").status_code == 400
assert Client().post("/sms/webhook-status").status_code == 401
for _ in range(2):  # the first page that a template renders imports all tag libraries
    assert Client().get("/nowhere/").status_code == 404
assert told == ["YES", "STOP"]

assert is_opted_out("0491 570 157")
assert opt_in("0491 570 157", note="asked")
opt_out("0491 570 158", note="asked")
send("0491 570 006", "Hello")


def command(name, *arguments, **options):
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


assert "/sms/webhook-receiver" in command("cellcast_setup")
assert json.loads(command("cellcast_status", "--json"))["events"]["stored"] == 4
command("cellcast_run_handlers")
command("cellcast_reprocess")
command("cellcast_export", "--contact=0491570006", "--output=export.json")
assert json.loads(Path("export.json").read_text())["messages"]
for name, arguments, cause in (
    ("cellcast_recover", [], "CELLCAST_API_KEY"),
    ("cellcast_test_send", ["receive", "--url=http://127.0.0.1:9/"], ""),
):
    try:
        command(name, *arguments)
    except CommandError as error:
        assert cause in str(error), error
    else:
        raise AssertionError(name)
command("cellcast_prune", "--older-than=90d")
command("cellcast_prune", "--contact=0491570006")
assert not Message.objects.with_contact("0491570006").exists()

assert "cellcast_django.admin" not in sys.modules
assert "django.contrib.admin.models" not in sys.modules
print("all of it", Message.objects.count(), OptOut.objects.count())
"""


@pytest.mark.parametrize("count", [1, 5], ids=lambda count: "-".join(APPS[:count]))
def test_host_without_the_admin_has_all_of_the_core(count: int, tmp_path: Path) -> None:
    shop = [sys.executable, "-m", "django", "startproject", "shop", str(tmp_path)]
    subprocess.run(shop, check=True)
    settings = tmp_path / "shop" / "settings.py"
    lines = settings.read_text("utf-8").splitlines(keepends=True)
    for app in APPS[:count]:
        gone = rf"\s+.django\.contrib\.{app}(\.(middleware|context_processors)\.\w+)?.,\n"
        lines = [line for line in lines if not re.fullmatch(gone, line)]
    settings.write_text(
        "".join(lines)
        + 'INSTALLED_APPS += ["cellcast_django"]\n'
        + 'ALLOWED_HOSTS = ["testserver"]\nDEBUG = False\n'
        + 'CELLCAST_WEBHOOK_SECRETS = ["cellcast:kT4pXw9ZbQ2mVd7R"]\n'
        + 'CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"\n',
        "utf-8",
    )
    (tmp_path / "shop" / "urls.py").write_text(
        "from django.urls import include, path\n"
        'urlpatterns = [path("sms/", include("cellcast_django.urls"))]\n',
        "utf-8",
    )
    used = subprocess.run(
        [sys.executable, "-W", "error", "-c", USED],
        cwd=tmp_path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stdout
    assert "all of it" in used.stdout


def test_tag_library_without_the_admin_imports_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django.contrib.admin")
    register = runpy.run_path(cellcast_texts.__file__)["register"]
    assert register.filters == register.tags == {}
