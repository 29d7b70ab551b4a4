"""Filters and searches that need more than a column; and the list of calls."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    WebhookEventFactory,
)
from cellcast_django.models import (
    HandlerCall,
    Message,
)
from cellcast_django.signals import (
    GiveUp,
    message_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient
from tests.admin_pages import (
    CUSTOMER,
    Know,
    changelist_at,
    listed,
    page_of,
    staff,
    text_of,
    url_of,
)
from tests.handlers import Calls, Connect
from tests.html import addresses, every

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def ask(seconds_ago: int, **parts: Any) -> Message:
    parts = {"sender": CUSTOMER, "created_at": NOW - timedelta(seconds=seconds_ago)} | parts
    return MessageFactory.create(inbound=True, **parts)


def answer(seconds_ago: int, **parts: Any) -> Message:
    time = NOW - timedelta(seconds=seconds_ago)
    parts = {"receiver": CUSTOMER, "created_at": time, "submitted_at": time} | parts
    return MessageFactory.create(**parts)


# For whom


def test_reception_is_offered_no_filters_of_tests_and_consent(reader: Client) -> None:
    """Unless they are in use: a count elsewhere may lead to them."""
    reception = staff("view_message")
    ours = {"opted_out", "test"}

    def offered(client: Client, **query: str) -> set[str]:
        specs = changelist_at(client, url_of("message", **query)).filter_specs
        return {each.parameter_name for each in specs} & ours

    assert offered(reader) == ours
    assert offered(reception) == set()
    assert offered(reception, opted_out="sent") == {"opted_out"}
    assert reception.get(url_of("handlercall")).status_code == 403
    for query, is_offered in (({}, False), ({"status": "silent"}, True)):
        specs = changelist_at(reader, url_of("message", **query)).filter_specs
        [statuses] = [each for each in specs if each.parameter_name == "status"]
        assert ("silent" in dict(statuses.lookup_choices)) == is_offered


# Statuses


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("on_the_way", {"new"}), ("unreported", {"old"})],
)
def test_message_without_a_final_status_is_on_the_way_for_days_and_then_unreported(
    reader: Client, choice: str, expected: set[str]
) -> None:
    month = 30 * 24 * 60 * 60
    sent = {
        "new": answer(60, status="sent").pk,
        "old": answer(month, status="sent").pk,
        "delivered": answer(60, status="delivered").pk,
        "reply": ask(60).pk,
    }
    found = listed(reader, "message", status=choice)
    assert {name for name, pk in sent.items() if pk in found} == expected


# Tests of our own


def test_lists_can_be_filtered_by_test_or_real(reader: Client) -> None:
    """A tested message is real once it is recorded: its id was sent later."""
    messages = {"no": ask(2), "only": ask(1)}
    events = {
        choice: WebhookEventFactory.create(
            message=message, is_test=choice == "only", received_at=message.created_at
        )
        for choice, message in messages.items()
    }

    for choice in ("no", "only"):
        assert listed(reader, "message", test=choice) == [messages[choice].pk]
        assert listed(reader, "webhookevent", test=choice) == [events[choice].pk]
    Message.objects.update(recorded_at=timezone.now())
    assert listed(reader, "message", test="only") == []
    assert len(listed(reader, "message", test="no")) == 2


# Calls


def test_calls_can_be_filtered_and_searched(
    reader: Client, client: WebhookClient, connect: Connect, know: Know
) -> None:
    know(search=lambda words: [])
    lucky, unlucky = Calls("lucky"), Calls("shop.unlucky", error=KeyError(1))
    connect(message_received, lucky)
    connect(message_received, unlucky)
    client.reply(message="one")
    unlucky.error = GiveUp("never")
    client.reply(message="two")
    done, retrying, also_done, gave_up = HandlerCall.objects.order_by("pk")
    skipped = HandlerCallFactory.create(handler="lucky", skipped=True)
    waiting = HandlerCallFactory.create(handler="lucky", waiting=True, event__is_test=True)

    def found(**query: str) -> list[int]:
        return sorted(listed(reader, "handlercall", **query))

    assert found(state="failing") == [retrying.pk, gave_up.pk]
    for call in (retrying, gave_up, skipped, waiting):
        assert found(state=call.state) == [call.pk]
    assert found(state="done") == [done.pk, also_done.pk]
    assert found(handler="shop.unlucky") == [retrying.pk, gave_up.pk]
    assert found(error="KeyError") == found(error="KeyError", state="retrying") == [retrying.pk]
    assert found(error="GiveUp", state="retrying") == []
    HandlerCall.objects.filter(pk=gave_up.pk).update(error="GiveUp")  # as redaction leaves it
    assert found(error="GiveUp") == [gave_up.pk]
    assert found(test="only") == [waiting.pk]
    assert found(q="UNLUCKY") == [retrying.pk, gave_up.pk]
    assert found(q=f"event #{done.event_id}") == found(q=str(done.event_id))
    assert found(q=str(done.event_id)) == [done.pk, retrying.pk]
    assert found(q="nobody") == []
    page = text_of(page_of(reader, "handlercall", q="nobody"))
    assert "Nothing found." in page and "phone" not in page and "Names are" not in page
    HandlerCall.objects.filter(event=done.event).update(event=waiting.event)
    tomorrow = timezone.localdate() + timedelta(days=1)
    assert found(**{"from": tomorrow.isoformat()}) == []
    assert len(found(**{"to": tomorrow.isoformat()})) == 6


def test_filters_of_calls_offer_what_is_connected_or_failing_and_the_chosen(
    reader: Client, connect: Connect
) -> None:
    def choices(parameter: str, **query: Any) -> list[str]:
        specs = reader.get(url_of("handlercall", **query)).context["cl"].filter_specs
        found = [spec for spec in specs if getattr(spec, "parameter_name", "") == parameter]
        return [str(lookup) for spec in found for lookup, _ in spec.lookup_choices]

    assert choices("handler") == choices("error") == []
    connect(status_changed, Calls("connected"))
    HandlerCallFactory.create(handler="gone", failed=True)
    HandlerCallFactory.create(handler="neither")
    assert choices("handler") == ["connected", "gone"]
    assert choices("handler", handler="neither") == ["connected", "gone", "neither"]
    assert choices("error") == ["ConnectionError"]
    assert choices("error", error="KeyError") == ["ConnectionError", "KeyError"]
    for parameter in ("handler", "error"):  # PostgreSQL refuses a text with it
        assert "\0" not in "".join(choices(parameter, **{parameter: "\0"}))


def test_page_of_a_call_shows_its_error_and_what_can_be_done(
    reader: Client, operator: Client
) -> None:
    call = HandlerCallFactory.create(
        failed=True, error="KeyError: <b>1</b>", location="book (x.py:1)"
    )
    page = page_of(reader, "handlercall", "change", call.pk)
    assert "KeyError: &lt;b&gt;1&lt;/b&gt;" in page and "book (x.py:1)" in page
    assert url_of("webhookevent", "change", call.event_id) in addresses(page)
    assert not every(page, "a[@data-action]") and not every(page, "div[@class='help']")
    other = HandlerCallFactory.create(failed=True, handler=call.handler)
    HandlerCallFactory.create(handler=call.handler)
    [url] = [each for each in addresses(page) if f"handler={call.handler}" in each]
    assert [row.pk for row in changelist_at(reader, url).result_list] == [other.pk, call.pk]
    page = page_of(operator, "handlercall", "change", call.pk)
    assert [each.get("data-action") for each in every(page, "a[@data-action]")] == [
        "run_again",
        "skip",
    ]
    done = HandlerCallFactory.create()
    assert not every(page_of(reader, "handlercall", "change", done.pk), "pre")


# The history of a contact


@pytest.mark.parametrize("model", ["message", "webhookevent", "handlercall", "optout"])
def test_skins_find_what_names_each_filter(admin_client: Client, model: str) -> None:
    """unfold asks each filter for the one or the other."""
    specs = admin_client.get(url_of(model)).context["cl"].filter_specs
    assert specs
    for spec in specs:
        assert getattr(spec, "field_path", None) or getattr(spec, "parameter_name", None), spec
        field = getattr(spec, "field", None)
        assert field is None or field.name, "Grappelli asks it for its name"
