"""The demo from start to finish."""

import json
import logging
import re
import secrets
import time
from io import StringIO
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.webhooks import WEBHOOKS
from example_project.simulation import console
from example_project.simulation.account import Account
from example_project.simulation.ageing import age
from example_project.simulation.outage import connect_calendar, show_outage
from example_project.simulation.people import CUSTOMERS, SAM
from example_project.simulation.plan import (
    BURST_DUPLICATES,
    BURST_NUMBERS,
    everything,
    new_id,
    reply,
)
from example_project.simulation.recovery import show_recovery
from example_project.simulation.server import DemoServer
from example_project.simulation.traffic import DemoError, Traffic
from example_project.simulation.verification import ADMIN, PLACES, verify
from example_project.wsgi import application


def run(server: DemoServer, database: Path, *, check: bool) -> int:
    """Run the demo, and return the exit code. Without ``check`` it ends with Ctrl-C."""
    server.start(application)
    try:
        with (
            Account() as account,
            override_settings(CELLCAST_API_URL=account.url, CELLCAST_API_KEY=account.key),
        ):
            password = prepare(server, database)
            problems = show(account, password, check=check)
            if not check:
                wait(server, account, password)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except (CommandError, DemoError, ObjectDoesNotExist) as error:
        console.wrong(str(error))
        return 1
    finally:
        server.stop()
        if check:
            remove_database(database)
    return 1 if problems else 0


def prepare(server: DemoServer, database: Path) -> str:
    """Create an empty database and an admin user; return the user's password."""
    log = logging.getLogger("django.request")
    log.addHandler(logging.StreamHandler())  # the exception behind a 500
    log.setLevel(logging.ERROR)
    logging.getLogger("django.server").setLevel(logging.CRITICAL)
    logging.getLogger("cellcast_django").setLevel(logging.ERROR)  # refusals are reported below
    console.heading("A dentist's SMS reminders, and what Cellcast reports about them")
    remove_database(database)
    call_command("migrate", verbosity=0)
    console.done(f"A new database, {database.name}")
    password = secrets.token_urlsafe(12)
    get_user_model().objects.create_superuser(ADMIN, password=password)
    console.done(f"A user for the admin, {ADMIN}, with a random password")
    console.done(f"A server at {server.url}")
    return password


def show(account: Account, password: str, *, check: bool) -> int:
    """Run all parts of the demo; return the number of problems, if ``check``."""
    traffic = Traffic()
    connect_calendar()

    console.heading("Two days of traffic, and some of last month: webhooks over HTTP")
    play_everything(traffic)

    console.heading("Test Send, as from Cellcast's dashboard")
    test_send("receive")
    test_send("receive")
    test_send("status", "--set", f"_id={new_id(timezone.now())}")
    test_send("opt-out")

    console.heading("A handler fails, and succeeds on the next attempt")
    outage = show_outage(traffic)

    console.heading("What webhooks missed is fetched from Cellcast's API (here a simulated one)")
    show_recovery(account, traffic)

    if not check:
        return 0
    console.heading("Checking what was stored")
    return verify(outage, account, password)


def play_everything(traffic: Traffic) -> None:
    """Play the plan, print the results, and give the rows the plan's times."""
    started = time.monotonic()
    traffic.play(everything(timezone.now()))
    seconds = time.monotonic() - started
    age(
        sent_at=traffic.sent_at,
        reported_at=traffic.reported_at,
        opted_in_at=traffic.opted_in_at,
    )

    outcomes = traffic.outcomes
    console.done(f"{len(traffic.sent_at)} messages sent, {len(CUSTOMERS)} of them reminders")
    console.done(
        f"{outcomes.total()} webhooks in {seconds:.1f} s, {len(BURST_NUMBERS) + BURST_DUPLICATES} "
        f"of them at once: {outcomes['stored']} stored, {outcomes['duplicate']} duplicates, "
        f"{outcomes['invalid']} invalid but kept"
    )
    console.done("1 webhook without the right password: refused, and not kept")
    console.done("Everything moved back in time, to when it is said to have happened")


def test_send(*arguments: str) -> None:
    """Run the command, which raises ``CommandError`` if the webhook is not stored."""
    output = StringIO()
    call_command("cellcast_test_send", *arguments, stdout=output)
    [verdict] = re.findall(r"Event \d+: \w+", output.getvalue())
    console.done(f"manage.py cellcast_test_send {' '.join(arguments)}: {verdict}")


def wait(server: DemoServer, account: Account, password: str) -> None:
    """Print what there is to see and to try, until Ctrl-C."""
    payload = reply(timezone.now(), SAM.number, "YES", _id=new_id(timezone.now())).payload
    admin = server.url + reverse("admin:index")
    console.heading("Look around")
    console.line(f"Admin         {admin}")
    console.line(f"User          {ADMIN}")
    console.line(f"Password      {password}")
    for title, page in PLACES.items():
        console.line(f"{title:<12}  {server.url}{reverse(f'admin:{page}')}")
    console.heading(f"Play {SAM.name}: reply YES, and see your appointment confirmed")
    if console.CAN_TYPE:
        console.line(f"Type {SAM.number.replace('+61', '0')} YES here (or: help). Elsewhere, run")
    console.line(f"curl -u {conf.webhook_secrets[0]} \\")
    console.line(f"  -d '{json.dumps(payload)}' \\")
    console.line(f"  {WEBHOOKS[0].url(server.url)}")
    console.heading("What you send in the admin shows up here. Ctrl-C stops the server")
    account.listen()


def remove_database(database: Path) -> None:
    """Delete the file, and those that SQLite creates beside it."""
    connections.close_all()
    for suffix in ("", "-shm", "-wal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
