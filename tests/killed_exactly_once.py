"""A process killed before each statement of a handler marked ``exactly_once``, one after the other.

SQLite tells of its statements by itself. Between the process and a server stands a proxy, which
sees what goes to the server, COMMIT included, and kills the process before it passes that on.

Prints for each whether the handler's row and its outcome are there: ``both`` or ``neither``, else
what is. Then the event is run again, and the row must be there once.
"""

import os
import select
import signal
import socket
from itertools import count
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from cellcast_django import handlers, inbox  # noqa: E402
from cellcast_django.models import Message, WebhookEvent  # noqa: E402
from cellcast_django.payloads import Endpoint, read  # noqa: E402
from cellcast_django.signals import exactly_once, message_received  # noqa: E402


@exactly_once
def write(event: WebhookEvent, **kwargs: Any) -> None:
    """Write two rows."""
    for number in range(2):
        Message.objects.create(key=f"{event.pk} {number}")


def store(number: int) -> WebhookEvent:
    """Store a reply, whose run is to begin."""
    body = f'{{"_id": "1", "type": "receive", "message": "{number}", "sender": "0400000000"}}'
    [event] = inbox.store(
        read(body.encode(), "application/json", Endpoint.RECEIVE), endpoint=Endpoint.RECEIVE
    )
    return event


def kill(process: int) -> None:
    """End a process as if the machine had failed."""
    os.kill(process, signal.SIGKILL)


def run(event: WebhookEvent) -> None:
    """Run the event, and end the process."""
    handlers.run([event])
    os._exit(0)


def run_and_be_killed(event: WebhookEvent, statements: int) -> int:
    """Run the event in another process, which dies before this many statements are executed.

    Returns how the process has ended.
    """
    connection.close()
    if connection.vendor == "sqlite":
        if not (child := os.fork()):
            kill_before(statements)
            run(event)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            if not (child := os.fork()):
                host, port = listening.getsockname()
                connection.settings_dict |= {"HOST": host, "PORT": str(port)}
                run(event)
            pass_on(listening, child, statements)
    return os.waitpid(child, 0)[1]


def kill_before(statements: int) -> None:
    """Let SQLite end this process when it has executed this many statements."""
    left = iter(range(statements))

    def kill_at_last(statement: str) -> None:
        if next(left, None) is None:
            kill(os.getpid())

    connection.ensure_connection()
    connection.connection.set_trace_callback(kill_at_last)


def pass_on(listening: socket.socket, child: int, statements: int) -> None:
    """Connect a process with the server, and kill it when it has sent this many statements."""
    settings = connection.settings_dict
    server = socket.create_connection((settings["HOST"], int(settings["PORT"])))
    client, _ = listening.accept()
    left = iter(range(statements))
    with server, client:
        while True:
            for ready in select.select([server, client], [], [])[0]:
                data = ready.recv(1_000_000)
                if not data:
                    return
                if ready is client and next(left, None) is None:
                    kill(child)
                    return
                (server if ready is client else client).sendall(data)


def rows(event: WebhookEvent) -> int:
    """Return how many rows the handler has written."""
    return Message.objects.filter(key__startswith=f"{event.pk} ").count()


def state(event: WebhookEvent) -> str:
    """Return which of the rows and the outcome are there."""
    event.refresh_from_db()
    found = (rows(event), bool(event.handler_results), event.done_at is not None)
    return {(0, False, False): "neither", (2, True, True): "both"}.get(found, str(found))


def main() -> None:
    """Kill one process after the other, until one has come to its end."""
    call_command("migrate", "cellcast_django", verbosity=0)
    message_received.connect(write)
    for statements in count():
        event = store(statements)
        status = run_and_be_killed(event, statements)
        print(state(event))  # what the test reads
        if status == 0:
            return
        WebhookEvent.objects.filter(pk=event.pk).update(next_run_at=timezone.now())
        handlers.run_due([event.pk])
        assert rows(event) == 2


if __name__ == "__main__":
    main()
