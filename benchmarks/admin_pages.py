"""Every page of the admin that is measured, and what Django makes of the same wish."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django.utils import timezone

from benchmarks.filling import BUSY_CONTACT
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent

OWN_NUMBERS = ["+61481000000", "cellcast"]
"""What the messages come to, and go out from."""

PAGED = 10_000
"""Messages from which on there is a page 100 of every list."""


@dataclass(frozen=True)
class Page:
    """``plain`` is the address on Django's own admin, empty where it has no such page."""

    name: str
    path: str
    plain: str = ""


def pages() -> list[Page]:
    """Return the pages of the database in use, whose rows some of them name."""
    found = [*_of_messages(), *_of_events(), *_of_history(), *_of_opt_outs(), *_of_overview()]
    has_many_pages = Message.objects.all()[PAGED - 1 : PAGED].exists()
    return [page for page in found if has_many_pages or "page 100" not in page.name]


def _since(days: int) -> dict[str, Any]:
    return {"from": timezone.localdate() - timedelta(days=days - 1)}


def _list(model: str, name: str, query: dict[str, Any], plain: dict[str, Any] | None) -> Page:
    words = {
        "message": "messages",
        "webhookevent": "events",
        "statuschange": "history",
        "optout": "opt-outs",
    }
    address = f"cellcast_django/{model}/?"
    return Page(
        f"{words[model]}{', ' if name else ''}{name}",
        f"/admin/{address}{urlencode(query)}",
        "" if plain is None else f"/plain/{address}{urlencode(plain)}",
    )


def _of_messages() -> list[Page]:
    message = Message.objects.outbound().exclude(contact=BUSY_CONTACT).order_by("-pk").first()
    contact = message.contact if message else "+61400000123"
    cellcast_id = message.cellcast_id if message else "66b5b93b1e2c012dfe964000"
    digits = contact.removeprefix("+61")
    lists: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("", {}, {}),
        ("page 100", {"p": 100}, {"p": 50}),  # a page of Django's has twice as many rows
        *((way, {"direction": way}, {"direction__exact": way}) for way in ("inbound", "outbound")),
        *(
            (status, {"status": status}, {"status": status})
            for status in ("delivered", "expired", "dead", "sent")
        ),
        ("no status yet", {"status": "-"}, {"status": ""}),
        ("not delivered", {"status": "undelivered"}, None),
        ("silent", {"status": "silent"}, None),
        ("may want to stop", {"stop": "perhaps"}, None),
        *((f"last {days} days", _since(days), None) for days in (2, 7, 30)),
        ("failed of 7 days", {"status": "failed"} | _since(7), None),
        ("find a number", {"q": contact}, {"q": contact}),
        ("find 0400 …", {"q": f"0{digits[:3]} {digits[3:6]} {digits[6:]}"}, None),
        ("find 61400…", {"q": f"61{digits}"}, None),
        ("find the busy contact", {"q": BUSY_CONTACT}, {"q": BUSY_CONTACT}),
        ("find an id", {"q": cellcast_id}, {"q": cellcast_id}),
        ("find a word", {"q": "later"}, {"q": "later"}),
        ("find no word", {"q": "xylophone"}, {"q": "xylophone"}),
    ]
    return [
        *(_list("message", *each) for each in lists),
        *_details("message", message),
        *_to_answer(),
        Page("new conversation", "/admin/cellcast_django/message/new/"),
        *_conversations(),
    ]


def _to_answer() -> list[Page]:
    address = "/admin/cellcast_django/message/to-answer/"
    waiting = Message.objects.unhandled().order_by("-created_at").first()
    found = [
        Page("to answer", address),
        Page("to answer, longest wait first", f"{address}?order=longest"),
        Page("to answer, find a word", f"{address}?q=later"),
    ]
    if waiting:
        conversation = f"/admin/cellcast_django/message/{waiting.pk}/conversation/"
        found.append(Page("the conversation of who waits", conversation))
    return found


def _details(model: str, row: Any) -> list[Page]:
    if row is None:
        return []
    path = f"cellcast_django/{model}/{row.pk}/change/"
    name = {
        "message": "a message",
        "webhookevent": "an event",
        "statuschange": "a status change",
        "optout": "an opt-out",
    }
    return [Page(name[model], f"/admin/{path}", f"/plain/{path}")]


def _conversations() -> list[Page]:
    said = Message.objects.with_contact(BUSY_CONTACT).order_by("pk")
    if not said:
        return []
    middle = said[said.count() // 2]
    address = f"/admin/cellcast_django/message/{middle.pk}/conversation/"
    return [
        Page(
            "a message of the busy contact",
            f"/admin/cellcast_django/message/{middle.pk}/change/",
        ),
        Page("the busy conversation", address),
        Page("the busy conversation, its middle", f"{address}?before={middle.pk}"),
    ]


def _of_events() -> list[Page]:
    event = WebhookEvent.objects.filter(outcome="stored").order_by("-pk").first()
    contact = event.contact if event else "+61400000123"
    cellcast_id = event.cellcast_id if event else "66b5b93b1e2c012dfe964000"
    pk = event.pk if event else 1
    plain_outcomes = {"invalid": "invalid", "duplicate": "duplicate"}
    lists: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("", {}, {}),
        ("page 100", {"p": 100}, {"p": 50}),
        *(
            (
                outcome,
                {"outcome": outcome},
                {"outcome__exact": outcome} if outcome in plain_outcomes else None,
            )
            for outcome in ("done", "pending", "failed", "duplicate", "invalid")
        ),
        *(
            (kind, {"kind": kind}, {"kind__exact": kind})
            for kind in ("reply", "status", "opt_out", "unknown")
        ),
        ("a failing handler", {"handler": "shop.handlers.mark"}, None),
        *((f"last {days} days", _since(days), None) for days in (2, 7, 30)),
        ("find a number", {"q": contact}, {"q": contact}),
        ("find the busy contact", {"q": BUSY_CONTACT}, {"q": BUSY_CONTACT}),
        ("find an id", {"q": cellcast_id}, {"q": cellcast_id}),
        ("find an event", {"q": f"#{pk}"}, None),
    ]
    return [*(_list("webhookevent", *each) for each in lists), *_details("webhookevent", event)]


def _of_history() -> list[Page]:
    change = StatusChange.objects.select_related("message").order_by("-pk").first()
    contact = change.message.contact if change else "+61400000123"
    cellcast_id = change.message.cellcast_id if change else "66b5b93b1e2c012dfe964000"
    lists: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("", {}, {}),
        ("page 100", {"p": 100}, {"p": 50}),
        ("find a number", {"q": contact}, {"q": contact}),
        ("find the busy contact", {"q": BUSY_CONTACT}, None),
        ("find an id", {"q": cellcast_id}, {"q": cellcast_id}),
    ]
    return [*(_list("statuschange", *each) for each in lists), *_details("statuschange", change)]


def _of_opt_outs() -> list[Page]:
    opt_out = OptOut.objects.order_by("-pk").first()
    contact = opt_out.contact if opt_out else "+61400000123"
    lists: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("", {}, {}),
        ("find a number", {"q": contact}, None),
    ]
    return [*(_list("optout", *each) for each in lists), *_details("optout", opt_out)]


def _of_overview() -> list[Page]:
    pages = f"/admin/{WebhookEvent._meta.app_label}/webhookevent"
    last_month = timezone.localdate().replace(day=1) - timedelta(days=1)
    return [
        Page("the section's page", "/admin/cellcast_django/"),
        Page("overview", f"{pages}/overview/"),
        Page("activity", f"{pages}/activity/"),
        Page("setup", f"{pages}/setup/"),
        Page("figures, this month", f"{pages}/figures/"),
        Page("figures, last month", f"{pages}/figures/?period={last_month:%Y-%m}"),
        Page("figures, one number", f"{pages}/figures/?own={quote(OWN_NUMBERS[0])}"),
    ]
