"""``cellcast_simulate``: what it says on a terminal, what it survives, and how it ends."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command

from cellcast_django.api import send_sms
from cellcast_django.management.commands import cellcast_simulate
from cellcast_django.management.commands.cellcast_simulate import Command
from cellcast_django.simulator import FATES
from tests.commands import failure_of
from tests.scripted_server import SECRET, STORED, ScriptedServer
from tests.terminal import Terminal

OURS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + STORED
REFUSED = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="Cellcast webhook"\r\n\r\n'


def terminal(url: str, port: str = "0") -> Terminal:
    environment = {"DEBUG": "1", "CELLCAST_WEBHOOK_SECRETS": SECRET}
    program = "manage.py", "cellcast_simulate", f"--url={url}", f"--port={port}"
    return Terminal(*program, **environment)


@pytest.fixture
def hanging_site() -> Iterator[socket.socket]:
    """A site that takes connections, and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


@pytest.mark.exhaustive
def test_terminal_shows_what_to_do_and_what_comes_of_it(scripted_server: ScriptedServer) -> None:
    scripted_server.response = OURS
    with terminal(scripted_server.url) as screen:
        opening = screen.read_until("when this ends.").splitlines()
        assert len(opening) == 10
        screen.type("0491570006 YES")
        screen.read_until("Receive URL +61491570006 YES")
        screen.type("lost 0491570006 No, lost")
        screen.type(f"0491570006 STOP {'x ' * 100}")
        screen.read_until("Opt-Out URL 491570006")
        port = opening[2].rpartition(":")[2]
        with terminal(scripted_server.url, port) as second:
            assert "another cellcast_simulate" in second.read_until("--port")
            assert second.process.wait(20) == 1
        screen.press_ctrl_c()
        text = screen.read_until("or how they ended.")
        assert "has 0 messages, 3 replies and 1 opt-out." in text
    assert "\x1b[32;1m" in text, "in colour"
    shown = [line for line in text.splitlines() if not line.startswith("0491570006 STOP")]
    assert max(len(line.replace("\x1b[32;1m", "").replace("\x1b[0m", "")) for line in shown) <= 80
    assert len(scripted_server.requests) == 3
    assert not any("Cellcast-Test-Send" in each.headers for each in scripted_server.requests)


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", [Terminal.press_ctrl_c, lambda screen: screen.process.terminate()])
def test_ctrl_c_and_sigterm_end_it_while_webhooks_hang(
    hanging_site: socket.socket, end: Callable[[Terminal], None]
) -> None:
    with terminal(f"http://127.0.0.1:{hanging_site.getsockname()[1]}") as screen:
        screen.read_until("when this ends.")
        for _ in range(6):
            screen.type("0491570006 YES")
        with closing(hanging_site.accept()[0]):
            started = time.monotonic()
            end(screen)
            screen.read_until("A site that lost nothing has")
            assert screen.process.wait(20) == 0
    assert time.monotonic() - started < 7, "and not after fifteen"


# In this process


@pytest.fixture
def _developing(settings: Any) -> None:
    settings.DEBUG = True
    settings.CELLCAST_WEBHOOK_SECRETS = [SECRET]


def run(during: Callable[[Command], object], *options: str) -> str:
    """Return what the command says, without a terminal, until it is interrupted."""
    command, stdout = Command(), StringIO()

    class Interrupted(Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:
                during(command)
                raise KeyboardInterrupt
            return super().wait(timeout)

    with patch.object(cellcast_simulate, "Event", Interrupted), patch("signal.signal"):
        call_command(command, "--port=0", *options, stdout=stdout)
    return stdout.getvalue()


def until_said(command: Command, words: str) -> None:
    """Wait for what another thread has to say."""
    until = time.monotonic() + 10
    while words not in command.stdout.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert words in command.stdout.getvalue()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--url=https://example.com", "on this machine"),
        ("--url=http://127.0.0.1.example.com", "on this machine"),
        ("--port=0", "DEBUG is off"),
    ],
)
def test_site_elsewhere_or_in_production_is_an_error(option: str, words: str) -> None:
    assert words in str(failure_of("cellcast_simulate", option)[1])


def test_port_that_cannot_be_had_is_an_error(settings: Any, hanging_site: socket.socket) -> None:
    settings.CELLCAST_API_URL = "http://127.0.0.1:8765"
    for port in hanging_site.getsockname()[1], 99_999:
        assert f"Port {port}" in str(failure_of("cellcast_simulate", f"--port={port}")[1])


class Typed(StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_developing")
@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (Typed("help\n"), "0491578957  refused by the gateway"),
        (Typed("\n"), "has 0 messages, 0 replies"),
        (Typed("what\n"), "Type help, or a number and text"),
        (Typed("nobody YES\n"), "Type help, or a number and text"),
        (Typed("lost 0491570006 YES\n"), "has 0 messages, 1 reply and 0 opt-outs"),
        (Typed("0491570006 \x1b[2J\n"), "not kept: Receive URL +61491570006 [2J\n"),
        (Typed(f"0491570006 {'x ' * 100}\n"), "x…\n"),
        (StringIO("0491570006 YES\n"), "has 0 messages, 0 replies"),
        (None, "has 0 messages, 0 replies"),
    ],
)
def test_typed_line_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, stdin: StringIO | None, words: str
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    text = run(lambda _: None, "--url=http://127.0.0.1:1")
    assert words in text
    assert "\x1b" not in text


@pytest.mark.usefixtures("_developing")
@pytest.mark.parametrize(
    ("response", "words"),
    [
        (OURS, "stored: Receive URL +61491570006 YES"),
        (REFUSED, "password"),
        (b"HTTP/1.1 500 No\r\n\r\n", "failed (500)"),
        (b"", "Nothing that speaks HTTP"),
    ],
)
def test_answer_of_the_site_is_told_as_test_send_does(
    scripted_server: ScriptedServer, response: bytes, words: str
) -> None:
    scripted_server.response = response
    url = f"--url={scripted_server.url}"
    text = run(lambda command: command.obey("0491570006 YES"), url)
    assert words in text
    assert f"know of 0, {int(response != OURS)} and 0 of" in text


@pytest.mark.usefixtures("_developing")
def test_missing_secret_is_said_and_the_api_goes_on(
    scripted_server: ScriptedServer, settings: Any
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []
    scripted_server.response = REFUSED

    def use(command: Command) -> None:
        settings.CELLCAST_API_URL = command.account.url
        settings.CELLCAST_API_KEY = command.account.key
        send_sms("+61491574118", "At nine?")
        until_said(command, "not kept: Status URL +61491574118 failed")

    text = run(use, f"--url={scripted_server.url}", "--harsh=3")
    assert "CELLCAST_WEBHOOK_SECRETS has no usable entry" in text
    assert "SMS to +61491574118: At nine?\n" in text
    assert "has 1 message, 0 replies and 0 opt-outs" in text


def test_help_has_the_table() -> None:
    text = Command().create_parser("manage.py", "cellcast_simulate").format_help()
    assert all(f"0{number[3:]}  {fate.description}" in text for number, fate in FATES.items())
