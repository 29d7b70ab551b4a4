"""``cellcast_simulate``: what it says on a terminal, what it survives, and how it ends."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command

from cellcast_django.api import NotSentError, send_sms
from cellcast_django.management.commands import cellcast_simulate
from cellcast_django.management.commands.cellcast_simulate import Command
from cellcast_django.simulator import FATES
from tests.commands import failure_of
from tests.scripted_server import STORED, ScriptedServer
from tests.terminal import Terminal

SECRET = "cellcast:a-long-enough-password"  # noqa: S105
OURS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + STORED
REFUSED = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="Cellcast webhook"\r\n\r\n'


@pytest.fixture
def hanging_site() -> Iterator[str]:
    """The URL of a site that takes connections, and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def terminal(url: str, *options: str) -> Terminal:
    environment = {"DEBUG": "1", "CELLCAST_WEBHOOK_SECRETS": SECRET}
    return Terminal("manage.py", "cellcast_simulate", f"--url={url}", *options, **environment)


def free_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return str(server.getsockname()[1])


@pytest.mark.exhaustive
def test_terminal_shows_what_to_do_and_what_comes_of_it(scripted_server: ScriptedServer) -> None:
    scripted_server.response = OURS
    port = free_port()
    with terminal(scripted_server.url, f"--port={port}") as screen:
        opening = screen.read_until("when this ends.").splitlines()
        assert len(opening) == 10
        assert f"  CELLCAST_API_URL=http://127.0.0.1:{port}" in opening
        screen.type("0491570006 YES")
        screen.read_until("+61491570006 YES: stored")
        screen.type("lost 0491570006 No, lost")
        screen.type("what")
        screen.read_until("means nothing")
        screen.type("nobody YES")
        screen.read_until("'nobody' is no phone number")
        screen.type("help")
        screen.read_until(list(FATES.values())[-1].description)
        screen.type(f"0491570006 STOP {'x' * 100}")
        screen.read_until("Opt-Out URL 491570006: stored")
        second = terminal(scripted_server.url, f"--port={port}")
        with second:
            assert "another cellcast_simulate" in second.read_until("--port")
            assert second.process.wait(20) == 1
        screen.press_ctrl_c()
        text = screen.read_until("opt-outs.\r\n")
        assert screen.process.wait(20) == 0
    assert "0 messages, 3 replies and 1 opt-outs" in text
    assert "of 1 replies and 0 opt-outs" in text
    assert "\x1b[" in text, "in colour"
    shown = [line for line in text.splitlines() if not line.startswith("0491570006 STOP")]
    assert max(len(line.replace("\x1b[32;1m", "").replace("\x1b[0m", "")) for line in shown) <= 80
    paths = [(request.path, request.headers) for request in scripted_server.requests]
    assert len(paths) == 3
    assert not any("Cellcast-Test-Send" in headers for _, headers in paths)


@pytest.mark.exhaustive
def test_ctrl_c_ends_it_while_a_webhook_hangs(hanging_site: str) -> None:
    with terminal(hanging_site, f"--port={free_port()}") as screen:
        screen.read_until("when this ends.")
        for _ in range(6):
            screen.type("0491570006 YES")
        time.sleep(0.5)
        started = time.monotonic()
        screen.press_ctrl_c()
        screen.read_until("opt-outs.\r\n")
        assert screen.process.wait(20) == 0
    assert time.monotonic() - started < cellcast_simulate.TIMEOUT_SECONDS / 2


# In this process


def run(during: Callable[[Command], object], *options: str) -> str:
    """Return what the command says, without a terminal, until it is interrupted."""
    command, stdout = Command(), StringIO()

    def wait() -> None:
        during(command)
        raise KeyboardInterrupt

    with patch.object(cellcast_simulate, "Event", lambda: SimpleNamespace(wait=wait)):
        call_command(command, "--port=0", *options, stdout=stdout)
    return stdout.getvalue()


def until_said(command: Command, words: str) -> None:
    """Wait for what another thread has to say."""
    until = time.monotonic() + 10
    while words not in command.stdout.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert words in command.stdout.getvalue()


@pytest.mark.parametrize(
    "url", ["https://example.com", "http://127.0.0.1.example.com", "http://127.0.0.1/x", "http://["]
)
def test_site_elsewhere_is_an_error(url: str) -> None:
    assert "on this machine" in str(failure_of("cellcast_simulate", f"--url={url}")[1])


def test_site_in_production_is_an_error(settings: Any) -> None:
    assert "CELLCAST_API_URL" in str(failure_of("cellcast_simulate")[1])
    settings.CELLCAST_API_URL = "http://127.0.0.1:8765"
    assert "Port 99999" in str(failure_of("cellcast_simulate", "--port=99999")[1])


@pytest.mark.usefixtures("_developing")
def test_without_a_terminal_it_only_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("0491570006 YES\n"))
    assert "0 messages, 0 replies" in run(lambda _command: None)


class Typed(StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_developing")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("help", "0491578957  refused by the gateway"),
        ("", "0 replies"),
        ("what", "means nothing here"),
        ("nobody YES", "'nobody' is no phone number"),
        ("lost 0491570006 YES", "has 0 messages, 1 replies"),
        ("0491570006 \x1b[2J", "[2J: not kept"),
        (f"0491570006 {'x' * 100}", "xxx…\n"),
    ],
)
def test_typed_line_is_obeyed(monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(f"{line}\n"))
    is_sent = line.startswith("0")
    said = words if is_sent else ""
    text = run(lambda command: until_said(command, said), "--url=http://127.0.0.1:1")
    assert words in text
    assert "\x1b" not in text


@pytest.fixture
def _developing(settings: Any) -> None:
    settings.DEBUG = True
    settings.CELLCAST_WEBHOOK_SECRETS = [SECRET]


@pytest.mark.usefixtures("_developing")
@pytest.mark.parametrize(
    ("response", "words"),
    [
        (OURS, "YES: stored"),
        (
            b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="Cellcast webhook"\r\n\r\n',
            "password",
        ),
        (b"HTTP/1.1 500 No\r\n\r\n", "failed (500)"),
        (b"", "Nothing that speaks HTTP"),
    ],
)
def test_answer_of_the_site_is_told_as_test_send_does(
    scripted_server: ScriptedServer, response: bytes, words: str
) -> None:
    scripted_server.response = response

    def reply(command: Command) -> None:
        command.obey("0491570006 YES")
        until_said(command, words)

    text = run(reply, f"--url={scripted_server.url}")
    assert f"of {int(response != OURS)} replies" in text


@pytest.mark.usefixtures("_developing")
def test_missing_secret_is_said_and_the_api_goes_on(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []

    def use(command: Command) -> None:
        command.obey("0491570006 YES")
        until_said(command, "CELLCAST_WEBHOOK_SECRETS")
        settings.CELLCAST_API_URL = command.account.url
        settings.CELLCAST_API_KEY = command.account.key
        send_sms("+61491574118", "At nine?")
        until_said(command, "+61491574118 failed: not sent")
        settings.CELLCAST_API_KEY = "another"
        with suppress(NotSentError):
            send_sms("+61491574118", "At nine?")

    text = run(use)
    assert "SMS to +61491574118: At nine?\n" in text
    assert "401 POST /api/v1/gateway" in text
    assert "has 1 messages, 1 replies and 0 opt-outs" in text
    assert "how 1 of the" in text


@pytest.mark.usefixtures("_developing")
def test_harsh_account_says_what_only_recovery_could_know(scripted_server: ScriptedServer) -> None:
    scripted_server.response = OURS

    def reply(command: Command) -> None:
        command.account.seconds_late = 0.05
        for number in range(30):
            command.obey(f"04915{70_010 + number} YES")
        time.sleep(1)

    text = run(reply, f"--url={scripted_server.url}", "--harsh=7")
    known = {request.body for request in scripted_server.requests}
    assert 0 < len(known) < 30 < len(scripted_server.requests) + 30 - len(known)
    assert "has 0 messages, 30 replies" in text
    assert f"of {30 - len(known)} replies" in text


def test_help_has_the_table() -> None:
    text = Command().create_parser("manage.py", "cellcast_simulate").format_help()
    for number, fate in FATES.items():
        assert f"0{number[3:]}  {fate.description}" in text
