"""The command cellcast_test_send: over a real socket, to the app itself."""

import base64
import json
import re
import socket
from io import StringIO
from operator import attrgetter
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from cellcast_django.diagnostics.diagnosis import DIAGNOSES
from cellcast_django.management.commands import cellcast_test_send
from cellcast_django.management.terminal import printable
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import reply_payload
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.scripted_server import ScriptedServer

PASSWORD = settings.CELLCAST_WEBHOOK_SECRETS[0].partition(":")[2]


class EmptyURLConf:
    """A project without the app's URLs."""

    urlpatterns: list[Any] = []


@pytest.fixture
def site(live_server: Any, settings: Any) -> str:
    """The app, running, and CELLCAST_PUBLIC_URL saying where."""
    settings.CELLCAST_PUBLIC_URL = live_server.url
    return str(live_server.url)


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def run(*arguments: str) -> str:
    """What the command prints; it never prints a password."""
    output = StringIO()
    call_command("cellcast_test_send", *arguments, stdout=output)
    return shown(output)


def run_and_fail(*arguments: str) -> str:
    """What the command prints before it fails."""
    output = StringIO()
    with pytest.raises(CommandError, match="was not accepted"):
        call_command("cellcast_test_send", *arguments, stdout=output)
    return shown(output)


def shown(output: StringIO) -> str:
    text = output.getvalue()
    assert PASSWORD not in text
    assert base64.b64encode(f"cellcast:{PASSWORD}".encode()).decode() not in text
    return text


# Which request


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=attrgetter("slug"))
def test_command_sends_the_example_to_its_url(site: str, webhook: Webhook) -> None:
    output = run(webhook.slug)
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.outcome) == (webhook.endpoint, "stored")
    assert event.username == "cellcast"
    assert event.body.encode() == webhook.body
    assert f"POST {webhook.url(site)}\n" in output
    assert "as cellcast\n" in output
    assert event.body in output
    assert f"Event {event.pk}: stored." in output


@pytest.mark.parametrize(
    "webhook", [each for each in WEBHOOKS if each.endpoint != "opt_out"], ids=attrgetter("slug")
)
def test_repeated_send_is_a_duplicate_that_calls_nobody(
    site: str, webhook: Webhook, listen: Any
) -> None:
    calls = listen(webhook.signal)
    [handler] = webhook.handlers()
    assert handler in run(webhook.slug)
    output = run(webhook.slug)
    assert ": duplicate." in output
    assert handler not in output
    assert f"--set {webhook.news}=…" in output
    assert len(calls) == 1
    run(webhook.slug, "--set", f"{webhook.news}=other")
    assert len(calls) == 2


def test_array_with_something_new_names_the_handlers(site: str, listen: Any) -> None:
    listen(message_received)
    [handler] = WEBHOOKS[0].handlers()
    run("receive")
    both = json.dumps([reply_payload(), reply_payload(message="new")])
    assert handler in run("receive", "--data", both)


def test_command_says_that_a_real_one_would_have_opted_out(site: str) -> None:
    said = "would have"
    assert said in run("opt-out")
    assert said in run("receive", "--set", "message=Stop")
    assert said not in run("receive")
    assert not OptOut.objects.exists()


def test_misspelt_key_is_refused(site: str) -> None:
    with pytest.raises(CommandError, match='"message"'):
        run("receive", "--set", "mesage=YES")
    assert not WebhookEvent.objects.exists()


def test_key_of_your_own_data_may_be_set(site: str) -> None:
    run("receive", "--data", '{"_id": 1, "reply": "?", "mesage": ""}', "--set", "mesage=YES")
    assert json.loads(WebhookEvent.objects.get().body)["mesage"] == "YES"


def test_set_option_changes_keys_of_the_example(site: str) -> None:
    run("status", "--set", "status=failed", "--set", "_id=abc", "--set", "source=a=b")
    assert json.loads(WebhookEvent.objects.get().body) == {
        "_id": "abc",
        "status": "failed",
        "type": "send",
        "sender": "cellcast",
        "receiver": "+61400000001",
        "source": "a=b",
    }


def test_data_option_replaces_the_example(site: str) -> None:
    run("receive", "--data", '{"_id": "1", "reply": "ja", "message": "?"}')
    assert Message.objects.get().body == "ja"


def test_set_option_changes_data(site: str) -> None:
    run("receive", "--data", '{"_id": 1, "reply": "?"}', "--set", "reply=ja")
    assert WebhookEvent.objects.get().body == '{"_id": 1, "reply": "ja"}'


def test_data_option_need_not_be_json(site: str) -> None:
    output = run_and_fail("receive", "--data", "hello")
    assert WebhookEvent.objects.get().body == "hello"
    assert "400 Bad Request after " in output
    assert WebhookEvent.objects.get().error in output


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "hello", "--set", "source=b"], "JSON object"),
        (["--data", "[]", "--set", "source=b"], "JSON object"),
        (["--data", "[" * 100_000, "--set", "source=b"], "JSON object"),
        (["--set", "status"], "write KEY=VALUE"),
    ],
)
def test_unusable_options_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("receive", *arguments)
    assert not WebhookEvent.objects.exists()


def test_delete_option_takes_back_what_tests_have_stored(site: str) -> None:
    run("receive")
    run("status")
    assert "2 test events" in run("--delete")
    assert not WebhookEvent.objects.exists() and not Message.objects.exists()


def test_url_has_to_be_named() -> None:
    with pytest.raises(CommandError, match="receive, status, opt-out"):
        run()


# Where to


def test_url_option_without_path_gets_the_projects_path(live_server: Any) -> None:
    output = run("status", "--url", f"{live_server.url}/")
    assert f"POST {live_server.url}/sms/webhook-status\n" in output


def test_url_option_with_path_is_used_as_given(live_server: Any) -> None:
    run("status", "--url", f"{live_server.url}/sms/webhook-receiver/")
    assert WebhookEvent.objects.get().endpoint == "receive"


def test_command_asks_for_a_url_if_none_is_known() -> None:
    with pytest.raises(CommandError, match="Set CELLCAST_PUBLIC_URL"):
        run("receive")


def test_command_reports_urls_not_included(settings: Any) -> None:
    settings.ROOT_URLCONF = EmptyURLConf
    settings.CELLCAST_PUBLIC_URL = "http://127.0.0.1"
    with pytest.raises(CommandError, match="Not in ROOT_URLCONF"):
        run("receive")


# As whom


def test_command_uses_the_first_secret(site: str, settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"new:{PASSWORD}", f"cellcast:{PASSWORD}"]
    run("receive")
    assert WebhookEvent.objects.get().username == "new"


def test_missing_secret_is_reported(settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "http://127.0.0.1"
    settings.CELLCAST_WEBHOOK_SECRETS = ["secret"]
    with pytest.raises(CommandError, match="no usable entry"):
        run("receive")


# What came back


def test_redirect_is_diagnosed(site: str, settings: Any) -> None:
    settings.PREPEND_WWW = True
    output = run_and_fail("receive")
    assert "301 Moved Permanently after " in output
    assert " http://www.localhost:" in output


def test_missing_response_is_diagnosed(closed_port: int) -> None:
    output = run_and_fail("receive", "--url", f"http://127.0.0.1:{closed_port}")
    assert str(DIAGNOSES["nothing-listens"][0]) in output
    assert " after " not in output


def test_command_runs_despite_errors_in_settings(site: str, settings: Any) -> None:
    settings.CELLCAST_HANDLER_LEASE = "60"
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 0
    command = cellcast_test_send.Command(stdout=StringIO())
    arguments = command.create_parser("manage.py", "cellcast_test_send").parse_args(["opt-out"])
    command.execute(**vars(arguments))  # unlike call_command(), this does not skip the checks
    assert WebhookEvent.objects.get().outcome == "stored"


def test_command_says_if_no_handler_is_connected(site: str) -> None:
    assert "INSTALLED_APPS" in run("receive")


def test_response_is_shown_without_control_characters(scripted_server: ScriptedServer) -> None:
    scripted_server.response = b"HTTP/1.1 502 Bad Gateway\r\n\r\n<title>\n502 \x1b[31m</title>"
    output = run_and_fail("receive", "--url", scripted_server.url)
    assert re.search(r"502 Bad Gateway after \d+ ms: <title> 502  \[31m</title>\n", output)


def test_printable_removes_control_characters() -> None:
    assert printable("caf\u00e9\x1b[2J\r\n\u202e") == "caf\u00e9 [2J   "
