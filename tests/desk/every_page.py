"""Every address that the admin and the desk have, and every form that one of their pages shows."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import URLResolver, get_resolver

from cellcast_django.admin.actions import CALL_ACTIONS, EVENT_ACTIONS
from cellcast_django.directory import Directory
from cellcast_django.factories import MessageFactory, OptOutFactory, WebhookEventFactory
from cellcast_django.models import HandlerCall, Message, OptOut, StatusChange, WebhookEvent
from tests.admin_pages import make_invalid
from tests.handlers import reply
from tests.html import every, parse

on_one_database = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="it is the same on each database"
)
"""For a test that opens or sends everything, whatever the database."""

NUMBER, NEW_NUMBER = "+61400777888", "+61400777999"
TEXT, NAME, REASON = "my HIV result?", "Grace Hopper-Lee", "asked at the counter by her son"

TYPED = {"number": NEW_NUMBER, "reason": REASON, "reply": TEXT, "answer": TEXT, "text": TEXT}
"""What a person types into a field of this name, unless something stands there."""


class Everybody(Directory):
    """Stand for ``CELLCAST_DIRECTORY``."""

    def names(self, contacts: list[str]) -> dict[str, str]:
        return dict.fromkeys(contacts, NAME)

    def answers(self, contact: str) -> list[str]:
        return [f"{TEXT} Ask {NAME}", NAME]


def store_something_of_everything() -> None:
    """Store what all pages have something to show of. A handler should fail meanwhile."""
    other = MessageFactory.create(inbound=True, sender=NUMBER, body=TEXT)
    other.mark_handled()
    Message.objects.record_sent("1", receiver=NUMBER, body=f"{TEXT} No", sender="+61480000000")
    reply(sender=NUMBER, receiver="+61480000000", message=TEXT)
    WebhookEventFactory.create(kind="status", message=Message.objects.get(cellcast_id="1"))
    WebhookEventFactory.create(opt_out=True, contact="+61400777111")
    OptOutFactory.create(contact="+61400777222", note=REASON)
    make_invalid(f'{{"_id": "2", "sender": "{NUMBER}", "message": "{TEXT}"}}')
    make_invalid(TEXT, dismissed_at=other.created_at)
    make_invalid(TEXT, is_test=True)
    user = User.objects.create_user("somebody")
    LogEntry.objects.log_actions(user.pk, Message.objects.all(), action_flag=2, single_object=False)


def addresses() -> list[str]:
    """Return the addresses of the admin's resolver that are ours, with something in their place."""
    ours = [each for each in _routes(get_resolver()) if each.startswith("admin/cellcast_django/")]
    found = sorted(f"/{address}" for route in ours for address in _filled(route))
    return ["/admin/cellcast_django/", *found]


def _routes(resolver: URLResolver) -> Iterator[str]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from (f"{each.pattern}{route}" for route in _routes(each))
        else:
            yield str(each.pattern)


def _filled(route: str) -> Sequence[str]:
    model = route.split("/")[2]
    rows: Any = {
        "message": Message.objects.filter(direction="inbound", handled_at=None),
        "optout": OptOut.objects.active(),
        "statuschange": StatusChange.objects.all(),
        "handlercall": HandlerCall.objects.failing(),
        "webhookevent": WebhookEvent.objects.filter(is_test=False).exclude(
            pk__in=WebhookEvent.objects.done()
        ),
    }[model]
    keys = [str(key) for key in rows.values_list("pk", flat=True)]
    if "<slug:name>" not in route:
        return [re.sub("<.*?>", keys[0], route)]
    of_one = keys if "<int:pk>" in route else keys[:1]
    return [
        re.sub("<int:pk>", key, route).replace("<slug:name>", action.name)
        for key in of_one
        for action in {"handlercall": CALL_ACTIONS, "webhookevent": EVENT_ACTIONS}[model]
    ]


@dataclass(frozen=True)
class Form:
    """What pressing one button of a page sends."""

    url: str
    data: dict[str, Any] = field(repr=False)


def forms(client: Client, urls: Sequence[str]) -> list[Form]:
    """Return every form of these pages that is posted, and those of the pages that ask then.

    Some actions of a list do not ask: what they change is taken back.
    """
    start: Any = connection.savepoint()  # not atomic(): the app would take it for a block of yours
    found: list[Form] = []
    for url in urls:
        response = client.get(url)
        if response.status_code == 200 and not response.streaming:
            found += _forms_of(url, response.content.decode())
    for each in [each for each in found if each.data.get("action")]:
        response = client.post(each.url, each.data)
        if response.status_code == 200:
            confirm = _forms_of(each.url, response.content.decode())
            found += [form for form in confirm if "confirmed" in form.data]
    connection.savepoint_rollback(start)
    return [*{repr((each.url, each.data)): each for each in found}.values()]


def _forms_of(url: str, html: str) -> Iterator[Form]:
    page = parse(html)
    for form in every(page, "form[@method='post']"):
        target = form.get("action", "").partition("#")[0] or url
        if "cellcast_django" not in target:
            continue  # logging out
        elements = [*form.iter(), *every(page, f"*[@form='{form.get('id', 'none')}']")]
        yield from (Form(action or target, data) for action, data in _sent(elements))


def _sent(elements: Sequence[Element]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each button sends what: for a list's, with each action and all rows."""
    data: dict[str, Any] = {}
    actions = []
    buttons = []
    for each in elements:
        name, value = each.get("name", ""), each.get("value", "")
        if each.tag == "button" or each.get("type") == "submit":
            buttons.append((each.get("formaction", ""), {name: value} if name else {}))
        elif name == "action" and each.tag == "select":
            actions = [option.get("value", "") for option in each.iter("option")]
        elif each.get("type") in ("checkbox", "radio"):
            data.setdefault(name, []).append(value)
        elif each.tag in ("input", "textarea") and name:
            data[name] = value or (each.text or "").strip() or TYPED.get(name, TEXT)
    if actions:
        yield from (("", data | {"action": action, "index": 0}) for action in actions if action)
        return
    answer = {name: value for name, value in data.items() if name != "note"}  # for Done alone
    yield from ((url, (data if url else answer) | button) for url, button in buttons)
