"""What must be stored after the demo, counted by hand from ``people.py`` and ``plan.py``."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db.models import Manager
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.payloads import Endpoint
from cellcast_django.sending import send
from example_project.appointments.models import Appointment
from example_project.simulation import console
from example_project.simulation.account import Account
from example_project.simulation.outage import Outage, calendar
from example_project.simulation.people import CHILDRENS_NUMBER, GRACE, KIM, OUR_NUMBER, RUBY, SAM
from example_project.simulation.server import HOST

ADMIN = "admin"
DESK_PLACES = {
    "Overview": "cellcast_django_overview",
    "To answer": "cellcast_django_message_to_answer",
    "Figures": "cellcast_django_figures",
    "Setup": "cellcast_django_setup",
}
PLACES = {
    **(DESK_PLACES if apps.is_installed("cellcast_django.desk") else {}),
    "Messages": "cellcast_django_message_changelist",
    "Events": "cellcast_django_webhookevent_changelist",
    "Appointments": "appointments_appointment_changelist",
}
"""Where a visitor may begin: a title, and the name of a page of the admin."""
ADMIN_PAGES: dict[str, Manager[Any]] = {
    "cellcast_django_message": Message.objects,
    "cellcast_django_statuschange": StatusChange.objects,
    "cellcast_django_webhookevent": WebhookEvent.objects,
    "appointments_appointment": Appointment.objects,
}
PRIYA_SAYS = "not sure yet, can I let you know tonight?"
LAYLA_SAYS = "مرحبا! نعم، سأحضر 👍🏽"

Expect = Callable[[str, object, object], None]


class Verification:
    """Compares, prints, and counts the problems."""

    def __init__(self) -> None:
        self.problems = 0

    def expect(self, what: str, found: object, expected: object) -> None:
        """Print whether this is as expected."""
        if found == expected:
            console.done(f"{what}: {_readable(found)}")
        else:
            console.wrong(f"{what}: {_readable(found)}, but expected: {_readable(expected)}")
            self.problems += 1


def verify(outage: Outage, account: Account, password: str) -> int:
    """Compare what is stored, and what the admin shows, with what is expected.

    Returns the number of problems.
    """
    verification = Verification()
    expect = verification.expect
    verify_rows(expect)
    verify_stories(expect)
    verify_appointments(expect)
    verify_handlers(expect, outage)
    verify_recovery(expect)
    verify_admin(expect, Client(SERVER_NAME=HOST), password)
    verify_round(expect, account)
    return verification.problems


def verify_rows(expect: Expect) -> None:
    """Count the rows of each kind."""
    outbound = Message.objects.outbound()
    expect("Inbound messages", Message.objects.inbound().count(), 22)
    expect("Outbound messages", outbound.count(), 140)
    expect(
        "Statuses of outbound messages",
        Counter(outbound.values_list("status", flat=True)),
        {"delivered": 111, "failed": 6, "rejected": 6, "expired": 5, "dead": 5, "": 7},
    )
    expect(
        "Status history, applied and not",
        [StatusChange.objects.filter(applied=applied).count() for applied in (True, False)],
        [168, 1],
    )
    expect(
        "Events",
        Counter(WebhookEvent.objects.values_list("outcome", flat=True)),
        {"stored": 170, "duplicate": 13, "invalid": 2},
    )
    events = WebhookEvent.objects.values_list("received_at", flat=True)
    months = {(local.year, local.month) for local in map(timezone.localtime, events)}
    expect("Calendar months with events", len(months), 2)


def verify_stories(expect: Expect) -> None:
    """Check the messages that are special cases."""
    for name, what, history in [
        ("Jack", "a report came late", ["– → delivered", "failed (late)"]),
        ("Noah", "the phone was off", ["– → expired", "expired → delivered"]),
        ("Mia", "reported before it was recorded", ["– → delivered"]),
    ]:
        reminders = Message.objects.outbound().filter(body__startswith=f"Hi {name} ")
        changes = StatusChange.objects.filter(message__in=reminders)
        expect(
            f"{name}'s reminder ({what})",
            [*reminders.values_list("status", flat=True), *map(str, changes)],
            ["delivered", *history],
        )
    replies = Message.objects.inbound().order_by("pk")
    bodies = replies.values_list("body", flat=True)
    ids = replies.filter(body="No").values("cellcast_id")
    two = ["No", "Sorry, wrong button: I'm coming!"]
    expect("Two replies with one id", list(bodies.filter(cellcast_id__in=ids)), two)
    expect("Right to left, with an emoji", list(bodies.filter(body__contains="نعم")), [LAYLA_SAYS])
    expect("Text of an MMS", list(bodies.exclude(media=[])), ["Here is the form"])
    expect(
        "Why Tom's reminder failed",
        list(
            StatusChange.objects.filter(message__body__startswith="Hi Tom ").values_list(
                "reason", flat=True
            )
        ),
        ["", "Absent subscriber"],
    )
    expect("Text from reply, not from message", list(bodies.filter(body="yes!")), ["yes!"])
    expect(
        "Kim wrote to both of our numbers",
        list(replies.with_contact(KIM.number).values_list("own_number", flat=True)),
        [OUR_NUMBER, CHILDRENS_NUMBER, CHILDRENS_NUMBER],
    )
    opt_out = OptOut.objects.with_contact(GRACE.number).get()
    expect(
        "Grace's opt-out, in which words and by whom",
        list(opt_out.history.values_list("kind", "text", "username")),
        [("begun", "Stop", ""), ("ended", "", "jo"), ("begun", "STOP", "")],
    )


def verify_appointments(expect: Expect) -> None:
    """Check what the example project's handlers did."""
    appointments = Appointment.objects.all()
    expect(
        "Appointments",
        Counter(appointments.values_list("state", flat=True)),
        {"confirmed": 5, "cancelled": 5, "planned": 6},
    )
    expect(
        "Their reminders",
        Counter(appointments.values_list("reminder", flat=True)),
        {"delivered": 13, "failed": 2, "sent": 1},
    )
    expect("Needs a call", appointments.filter(needs_attention=True).count(), 3)
    expect("Opted out", OptOut.objects.active().count(), 1)


def verify_handlers(expect: Expect, outage: Outage) -> None:
    """Check what was run, and what was run again."""
    expect("Events done", WebhookEvent.objects.done().count(), 169)
    expect("Events pending", list(WebhookEvent.objects.pending()), [outage.left])
    expect("Handlers called again", outage.called_again, ["office_calendar"])
    expect("Calls that failed after that", outage.run_again.calls.failing().count(), 0)
    expect("The reply that waited", outage.waited.state, WebhookEvent.State.DONE)
    replies = Message.objects.filter(events__in=[outage.run_again, outage.waited])
    in_order = list(replies.order_by("pk").values_list("body", flat=True))
    expect("Replies in the office calendar", len(calendar.entries), 21)
    expect("Ella's among them", [each for each in calendar.entries if each in in_order], in_order)


def verify_recovery(expect: Expect) -> None:
    """Check what was fetched from Cellcast's API."""
    fetched = WebhookEvent.objects.filter(endpoint=Endpoint.API)
    expect(
        "Events fetched",
        list(fetched.order_by("kind").values_list("kind", "contact")),
        [("reply", RUBY.number), ("status", RUBY.number)],
    )


def verify_admin(expect: Expect, browser: Client, password: str) -> None:
    """Check what the admin shows."""
    form = {"username": ADMIN, "password": password}
    response = browser.post(reverse("admin:login"), form)
    expect("Response to the login, a redirect", response.status_code, 302)
    for name, objects in ADMIN_PAGES.items():
        newest = objects.order_by("-pk")[0]
        paths = [
            reverse(f"admin:{name}_changelist"),
            reverse(f"admin:{name}_change", args=[newest.pk]),
        ]
        statuses = [browser.get(path).status_code for path in paths]
        expect(f"Pages {' and '.join(paths)}", statuses, [200, 200])
    places = {browser.get(reverse(f"admin:{page}")).status_code for page in PLACES.values()}
    expect(f"Pages {', '.join(PLACES)}", list(places), [200])
    if "Setup" in PLACES:
        page = browser.get(reverse(f"admin:{PLACES['Setup']}")).text
        expect("Errors of the demo's own on Setup", re.findall(r"\w+\.E\d+", page), [])
    path = reverse("admin:cellcast_django_message_changelist") + "?q=patel"
    page = browser.get(path).text
    expect(f"{path} finds what Priya wrote", PRIYA_SAYS if PRIYA_SAYS in page else "", PRIYA_SAYS)
    reply = Message.objects.get(body=LAYLA_SAYS)
    path = reverse("admin:cellcast_django_message_change", args=[reply.pk])
    page = browser.get(path).text
    expect(f"{path} shows", LAYLA_SAYS if LAYLA_SAYS in page else "", LAYLA_SAYS)


def verify_round(expect: Expect, account: Account) -> None:
    """Check what a visitor may try: an SMS, its report, and a STOP."""
    message = send(SAM.number, "Shall we call you?")
    account.send_reports()
    message.refresh_from_db()
    expect("What became of an SMS that is sent now", message.status, "delivered")
    account.obey(f"{SAM.number} STOP")
    expect("Whether its customer has opted out", is_opted_out(SAM.number), True)


def _readable(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{count} {key or 'without a report'}" for key, count in value.items()]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
