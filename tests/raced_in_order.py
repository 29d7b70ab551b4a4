"""Two web processes and two workers run the events of one contact: their order is kept.

Each pair is two replies, the second sent when the first has been answered; the handler raises for
every third call. Prints the texts in the order in which the handler finished with them.
"""

import os
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import Error, connection  # noqa: E402

from cellcast_django import handlers  # noqa: E402
from cellcast_django.handlers import schedule  # noqa: E402
from cellcast_django.models import Message, WebhookEvent  # noqa: E402
from cellcast_django.signals import in_order, message_received  # noqa: E402
from cellcast_django.testing import WebhookClient  # noqa: E402

calls = 0


@in_order
def note(message: Message, **kwargs: Any) -> None:
    """Write down the text, or raise."""
    global calls
    calls += 1
    if calls % 3 == 0:
        raise ConnectionError("the calendar is down")
    Message.objects.create(key=f"{time.time_ns()} {os.getpid()}", body=message.body)


def send(web: int, pairs: int) -> None:
    """Send pairs of replies of a contact of this web process's own and of one of both."""
    client = WebhookClient(raise_handler_errors=False)
    for pair in range(pairs):
        for text in (f"{web} {pair:03} YES", f"{web} {pair:03} CANCEL"):
            while client.reply(_id=text, message=text, sender="+61491570006").status_code != 200:
                time.sleep(0.05)


def work(seconds: float) -> None:
    """Run what is due until nothing is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Error):
            handlers.run_due()
        if WebhookEvent.objects.filter(cellcast_id="end").exists():
            return
        time.sleep(0.02)


def forked(act: Any, *arguments: Any) -> int:
    """Act in another process, and return its id."""
    connection.close()
    if child := os.fork():
        return child
    act(*arguments)
    os._exit(0)


def main(mode: str, pairs: int) -> None:
    """Send the pairs while two workers run, and print what the handler did in which order."""
    call_command("migrate", "cellcast_django", verbosity=0)
    settings.CELLCAST_RUN_HANDLERS = mode
    schedule.FIRST_PAUSE = schedule.LONGEST_PAUSE = timedelta(milliseconds=20)
    message_received.connect(note)
    workers = [forked(work, 300) for _ in range(2)]
    for web in [forked(send, web, pairs) for web in range(2)]:
        os.waitpid(web, 0)
    while WebhookEvent.objects.pending().exists():
        time.sleep(0.1)
    WebhookEvent.objects.create(cellcast_id="end")
    for worker in workers:
        os.waitpid(worker, 0)
    noted = Message.objects.filter(contact="").order_by("key")
    for text in noted.values_list("body", flat=True):
        print(text)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
