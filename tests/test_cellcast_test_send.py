"""The command cellcast_test_send: over a real socket, to the app itself."""

import base64
import json
import re
from io import StringIO
from operator import attrgetter
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError

from cellcast_django.management.commands import cellcast_test_send
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.commands import failure_of, output_of
from tests.scripted_server import ScriptedServer
from tests.test_checks import EmptyURLConf

PASSWORD = settings.CELLCAST_WEBHOOK_SECRETS[0].partition(":")[2]


@pytest.fixture
def site(live_server: Any, settings: Any) -> str:
    """The app, running, and CELLCAST_PUBLIC_URL saying where."""
    settings.CELLCAST_PUBLIC_URL = live_server.url
    return str(live_server.url)


def run(*arguments: str) -> str:
    """What the command prints; it never prints a password."""
    return shown(output_of("cellcast_test_send", *arguments))


def run_and_fail(*arguments: str) -> str:
    """What the command prints before it fails."""
    printed, error = failure_of("cellcast_test_send", *arguments)
    assert "was not accepted" in str(error)
    return shown(printed)


def shown(text: str) -> str:
    assert PASSWORD not in text
    assert base64.b64encode(f"cellcast:{PASSWORD}".encode()).decode() not in text
    return text


# Which request


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=attrgetter("endpoint.slug"))
def test_command_sends_the_example_to_its_url(site: str, webhook: Webhook) -> None:
    output = run(webhook.endpoint.slug)
    event = WebhookEvent.objects.get()
    assert (event.endpoint, event.outcome) == (webhook.endpoint, "stored")
    assert event.received_as == "cellcast"
    assert event.body.encode() == webhook.body
    assert f"POST {webhook.url(site)}\n" in output
    assert "as cellcast\n" in output
    assert event.body in output
    assert f"Event {event.pk}: stored." in output


@pytest.mark.parametrize(
    "webhook",
    [each for each in WEBHOOKS if each.endpoint != "opt_out"],
    ids=attrgetter("endpoint.slug"),
)
def test_repeated_send_is_a_duplicate_that_calls_nobody(
    site: str, webhook: Webhook, listen: Any
) -> None:
    calls = listen(webhook.signal)
    [handler] = webhook.handlers()
    assert handler in run(webhook.endpoint.slug)
    output = run(webhook.endpoint.slug)
    assert ": duplicate." in output
    assert handler not in output
    assert f"--set {webhook.news}=…" in output
    assert len(calls) == 1
    news = [webhook.example, {**webhook.example, webhook.news: "other"}]
    assert handler in run(webhook.endpoint.slug, "--data", json.dumps(news))
    assert len(calls) == 2


def test_command_says_that_a_real_one_would_have_opted_out(site: str) -> None:
    said = "would have"
    assert said in run("opt-out")
    assert said in run("receive", "--set", "message=Stop")
    assert said not in run("receive")
    assert not OptOut.objects.exists()


def test_set_option_changes_keys_of_the_example_and_of_your_own_data(site: str) -> None:
    run("status", "--set", "status=failed", "--set", "_id=abc", "--set", "source=a=b")
    changes = {"status": "failed", "_id": "abc", "source": "a=b"}
    [status] = [each for each in WEBHOOKS if each.endpoint == "status"]
    assert json.loads(WebhookEvent.objects.get().body) == {**status.example, **changes}
    assert "INSTALLED_APPS" in run(
        *("receive", "--data", '{"_id": 1, "reply": "?", "mesage": ""}'),
        *("--set", "reply=ja", "--set", "mesage=YES"),
    ), "no handler is connected"
    event = WebhookEvent.objects.latest("pk")
    assert event.body == '{"_id": 1, "reply": "ja", "mesage": "YES"}'
    assert Message.objects.inbound().get().body == "ja"


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
        (["--set", "mesage=YES"], '"message"'),
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


# Where to


def test_url_option_without_path_gets_the_projects_path(live_server: Any, settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"new:{PASSWORD}", f"cellcast:{PASSWORD}"]
    output = run("status", "--url", f"{live_server.url}/")
    assert f"POST {live_server.url}/sms/webhook-status\n" in output
    assert WebhookEvent.objects.get().received_as == "new"
    run("status", "--url", f"{live_server.url}/sms/webhook-receiver/")
    assert WebhookEvent.objects.latest("pk").endpoint == "receive"


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        ([], {}, "receive, status, opt-out"),
        (["receive"], {"CELLCAST_PUBLIC_URL": ""}, "Set CELLCAST_PUBLIC_URL"),
        (["receive"], {"ROOT_URLCONF": EmptyURLConf}, "Not in ROOT_URLCONF"),
        (["receive"], {"CELLCAST_WEBHOOK_SECRETS": ["secret"]}, "no usable entry"),
    ],
)
def test_what_is_missing_is_named(
    settings: Any, arguments: list[str], changes: dict[str, Any], words: str
) -> None:
    for name, value in ({"CELLCAST_PUBLIC_URL": "http://127.0.0.1"} | changes).items():
        setattr(settings, name, value)
    with pytest.raises(CommandError, match=words):
        run(*arguments)


# What came back


def test_command_runs_despite_errors_in_settings(site: str, settings: Any) -> None:
    settings.CELLCAST_HANDLER_LEASE = "60"
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 0
    command = cellcast_test_send.Command(stdout=StringIO())
    arguments = command.create_parser("manage.py", "cellcast_test_send").parse_args(["opt-out"])
    command.execute(**vars(arguments))  # unlike call_command(), this does not skip the checks
    assert WebhookEvent.objects.get().outcome == "stored"


def test_response_is_shown_without_control_characters(scripted_server: ScriptedServer) -> None:
    scripted_server.response = b"HTTP/1.1 502 Bad Gateway\r\n\r\n<title>\n502 \x1b[31m</title>"
    output = run_and_fail("receive", "--url", scripted_server.url)
    assert "POST http://127.0.0.1:9/" in run_and_fail("receive", "--url", "http://127.0.0.1:9")
    *_, seen, _problem, remedy = output.splitlines()
    assert re.fullmatch(r"502 Bad Gateway after \d+ ms: <title> 502  \[31m</title>", seen)
    assert remedy.startswith("  ")
