"""Measures the commands on many rows, each in a process of its own: speed and peak memory."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from typing import Any

import django

from benchmarks.progress import show
from benchmarks.servers import ROOT, database, environment_of
from benchmarks.sizes import copied, filled
from benchmarks.tables import print_table

WORK = ("prune", "redact", "run_handlers", "export")
TITLES = {
    "prune": "`cellcast_prune`",
    "redact": "`cellcast_prune --redact`",
    "run_handlers": "`cellcast_run_handlers`",
    "export": "export as CSV",
    "nothing": "nothing: Django alone",
}
HEADINGS = ("what", "rows", "seconds", "rows/s", "peak memory, MB", "of which grown")

parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
parser.add_argument(
    "--messages", default="100000,1000000", metavar="N,…", help="two sizes show what grows"
)
parser.add_argument("--due", default="10000,100000", metavar="N,…", help="due events")
parser.add_argument("--only", default=",".join(WORK), metavar="WORK,…")
parser.add_argument("--refill", action="store_true", help="fill the databases anew")
parser.add_argument("--child", nargs=2, metavar=("WORK", "ROWS"), help=argparse.SUPPRESS)


def main() -> None:
    """Run each command on a copy of each database, and print the table."""
    options = parser.parse_args()
    if options.child:
        work, rows = options.child
        print(json.dumps(CHILDREN[work](int(rows))))
        return
    sizes = [int(size) for size in options.messages.split(",")]
    due = [int(number) for number in options.due.split(",")]
    found = []
    with tempfile.TemporaryDirectory() as folder, database("postgresql", folder) as server:
        databases = filled(server, sizes, refill=options.refill)
        for work in options.only.split(","):
            for size, number in zip(sizes, due, strict=True):
                rows = number if work == "run_handlers" else size
                show(f"{work} {rows:,}")
                settings = copied(server, databases[size], "commands")
                nothing = run("nothing", 0, settings)
                found.append(line(work, run(work, rows, settings), nothing))
                print(*found[-1], flush=True)
    show("")
    print_table(HEADINGS, found)


def run(work: str, rows: int, settings: dict[str, Any]) -> dict[str, float]:
    """Do the work in a process of its own, and return what it says of itself."""
    command = [sys.executable, "-m", "benchmarks.commands", "--child", work, str(rows)]
    environment = environment_of("benchmarks.site", settings)
    output = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def line(work: str, measured: dict[str, float], nothing: dict[str, float]) -> list[str]:
    """Return the table's row."""
    rows, seconds = measured["rows"], measured["seconds"]
    return [
        TITLES[work],
        f"{rows:,.0f}",
        f"{seconds:,.1f}",
        f"{rows / seconds:,.0f}",
        f"{measured['megabytes']:.0f}",
        f"{measured['megabytes'] - nothing['megabytes']:.0f}",
    ]


# In the process of its own


def measured(rows: int, seconds: float) -> dict[str, float]:
    """Return the work's figures, with the most memory that this process has ever had."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": rows, "seconds": seconds, "megabytes": kilobytes / 1024}


def nothing(_rows: int) -> dict[str, float]:
    """Set Django up and ask one question."""
    django.setup()
    from cellcast_django.models import Message

    Message.objects.exists()
    return measured(0, 0)


def prune(_rows: int, *options: str) -> dict[str, float]:
    """Prune the oldest quarter of the year: messages and events."""
    django.setup()
    from django.core.management import call_command

    from cellcast_django.models import Message, WebhookEvent

    def left() -> int:
        messages, events = Message.objects.all(), WebhookEvent.objects.all()
        if options:
            messages, events = messages.exclude(contact=""), events.exclude(body="")
        return messages.count() + events.count()

    before = left()
    begin = time.perf_counter()
    with redirect_stdout(sys.stderr):
        call_command("cellcast_prune", "--older-than", "274d", *options, stdout=sys.stderr)
    seconds = time.perf_counter() - begin
    return measured(before - left(), seconds)


def redact(rows: int) -> dict[str, float]:
    """Empty the oldest quarter of the year."""
    return prune(rows, "--redact")


def run_handlers(rows: int) -> dict[str, float]:
    """Run so many events that are due to one handler, which does nothing."""
    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from cellcast_django.models import WebhookEvent
    from cellcast_django.signals import message_received, status_changed

    def handler(**_arguments: Any) -> None:
        """React to nothing."""

    message_received.connect(handler, dispatch_uid="benchmark")
    status_changed.connect(handler, dispatch_uid="benchmark")
    WebhookEvent.objects.pending().update(next_run_at=None, done_at=timezone.now())
    newest = WebhookEvent.objects.done().filter(kind__in=["reply", "status"]).order_by("-pk")
    last = newest[rows - 1].pk
    newest.filter(pk__gte=last).update(done_at=None, next_run_at=timezone.now())
    due = WebhookEvent.objects.pending().count()
    begin = time.perf_counter()
    call_command("cellcast_run_handlers", stdout=sys.stderr)
    seconds = time.perf_counter() - begin
    return measured(due - WebhookEvent.objects.pending().count(), seconds)


def export(_rows: int) -> dict[str, float]:
    """Read the file of all messages, as a server would send it."""
    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    user, _ = User.objects.get_or_create(username="staff", is_staff=True, is_superuser=True)
    client.force_login(user)
    begin = time.perf_counter()
    response = client.post("/admin/cellcast_django/message/export/")
    lines = sum(part.count(b"\n") for part in response.streaming_content)  # type: ignore[attr-defined]
    return measured(lines - 1, time.perf_counter() - begin)


CHILDREN = {work.__name__: work for work in (nothing, prune, redact, run_handlers, export)}

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site")
    main()
