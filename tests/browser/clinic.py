"""A clinic with two numbers: half a year, 4,000 messages, and 300 customers who wait.

Its URLs are those of the tests, and a page of its own about each customer.
"""

import unicodedata
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import path
from django.utils import timezone

import tests.urls
from cellcast_django.directory import Directory
from cellcast_django.models import Direction, Message, StatusChange
from tests.many import add_copies

MESSAGES, WAITING = 4_000, 300
PACE = timedelta(minutes=65)
"""Between two messages; those who wait have all written this morning, one each minute."""
OWN_NUMBERS = ["+61480000000", "+61480000001"]
CUSTOMERS = 1_000
REASONS = ["Absent subscriber", "Invalid number", "Phone switched off"]


def number_of(customer: int) -> str:
    return f"+61400000{customer:03}"


NAMES = {number_of(each): f"Mr Ng {each}" for each in range(CUSTOMERS)}
NAMES[number_of(7)], NAMES[number_of(8)] = "Mrs Grace Lee", "Chloé Tran"


class Customers(Directory):
    """Finds by all of the words, in any order, as the documentation shows it."""

    def names(self, contacts: list[str]) -> dict[str, tuple[str, str]]:
        known = [contact for contact in contacts if contact in NAMES]
        return {contact: (NAMES[contact], f"/customers/{contact[-3:]}/") for contact in known}

    def search(self, words: str) -> Iterable[str]:
        wanted = set(folded(words).split())
        return (number for number, name in NAMES.items() if wanted <= set(folded(name).split()))


def folded(text: str) -> str:
    """Return a text without case and accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each))


def customer_page(request: HttpRequest, customer: str) -> HttpResponse:
    """Stand for the clinic's own page about a customer, which leads to the conversation."""
    page = Template(
        "{% load cellcast_pages %}<!doctype html><title>{{ name }}</title>"
        '<a href="{% cellcast_conversation_url number %}">Texts</a>'
    )
    number = number_of(int(customer))
    context = RequestContext(request, {"name": NAMES[number], "number": number})
    return HttpResponse(page.render(context))


urlpatterns = [*tests.urls.urlpatterns, path("customers/<customer>/", customer_page)]


def fill() -> None:
    """Every third message is a reply, every tenth of the others was not delivered."""
    now = timezone.now()

    def message_of(number: int) -> dict[str, Any]:
        contact, own_number = number_of(number % CUSTOMERS), OWN_NUMBERS[number % 2]
        waits = number < WAITING
        is_reply = waits or number % 3 == 0
        minutes = timedelta(minutes=min(number, WAITING) + 1)
        at = now - minutes - max(0, number - WAITING) * PACE
        is_failed = number % 10 in (4, 5)
        return {
            "cellcast_id": f"id-{number}",
            "direction": Direction.INBOUND if is_reply else Direction.OUTBOUND,
            "contact": contact,
            "sender": contact if is_reply else own_number,
            "receiver": own_number if is_reply else contact,
            "own_number": own_number,
            "body": f"May I come later? ({number})" if is_reply else "See you at nine?",
            "status": "received" if is_reply else "failed" if is_failed else "delivered",
            "created_at": at,
            "status_changed_at": at,
            "handled_at": at + timedelta(hours=1) if is_reply and not waits else None,
            "handled_by": "ruth" if is_reply and not waits else "",
        }

    with transaction.atomic():
        keys = add_copies(Message(), MESSAGES, message_of)
        failed = Message.objects.filter(status="failed").order_by("pk")
        rows = list(failed.values_list("pk", "created_at"))

        def change_of(place: int) -> dict[str, Any]:
            message, at = rows[place]
            reason = REASONS[(message - keys[0]) // 20 % len(REASONS)]
            return {"message_id": message, "reason": reason, "recorded_at": at}

        add_copies(StatusChange(status="failed", applied=True), len(rows), change_of)
