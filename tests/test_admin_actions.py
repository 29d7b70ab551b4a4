"""The actions on events: the page that asks, what is done, and what is said about it."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from cellcast_django.admin.replay import actions
from cellcast_django.admin.replay.replays import REPLAYS
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.handlers.queue import tasks_package
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import message_received, opt_out_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import (
    CUSTOMER,
    ID,
    make_invalid,
    page_of,
    staff,
    text_of,
    url_of,
)
from tests.clock import Clock
from tests.handlers import Calls, Connect, Listen, reply
from tests.html import addresses, every, hidden_fields
from tests.many import add_copies

pytestmark = pytest.mark.django_db

UNDERSTOOD_NOW = f'{{"_id": "{ID}", "sender": "{CUSTOMER}", "message": "YES"}}'


def choose(client: Client, action: str, *selected: int, **data: Any) -> Any:
    """Choose an action for the selected events, as the list does."""
    data = {"action": action, "_selected_action": selected, "index": 0, "select_across": 0} | data
    return client.post(url_of("webhookevent"), data, follow=True)


def confirm(client: Client, question: Any) -> Any:
    """Press the button of the page that asks."""
    form = every(question.content.decode(), "form")[-1]
    return client.post(url_of("webhookevent"), hidden_fields(form), follow=True)


def said(response: Any) -> list[tuple[str, str]]:
    """Return what the page says: level and text."""
    assert response.status_code == 200
    return [(message.level_tag, str(message)) for message in response.context["messages"]]


def run(client: Client, action: str, *selected: int) -> list[tuple[str, str]]:
    """Choose an action, confirm it if the page asks, and return what is said in the end."""
    response = choose(client, action, *selected)
    asks = 'name="confirmed"' in response.content.decode()
    return said(confirm(client, response) if asks else response)


# Run again


def test_run_again_calls_the_handlers_that_have_not_finished(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    calls = []

    def finished(**arguments: Any) -> None:
        calls.append("finished")

    def mended(**arguments: Any) -> None:
        calls.append("mended")
        if calls.count("mended") == 1:
            raise ValueError("not yet")

    connect(message_received, finished)
    connect(message_received, mended)
    client.reply()
    event = WebhookEvent.objects.get()

    assert run(operator, "run_again", event.pk) == [
        ("success", "1 event done: all its handlers have finished.")
    ]
    assert calls == ["finished", "mended", "mended"]
    event.refresh_from_db()
    assert event.done_at is not None
    assert run(operator, "run_again", event.pk) == [("info", "1 event had nothing left to run.")]
    assert len(calls) == 3


def test_run_again_says_what_waits_what_failed_and_which_handler_raised(
    operator: Client, client: WebhookClient, connect: Connect, settings: Any
) -> None:
    unlucky = Calls("unlucky", error=ValueError("no luck"))
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    connect(message_received, unlucky)
    client.reply(message="one")
    client.reply(message="two")
    pks = WebhookEvent.objects.values_list("pk", flat=True)
    raised = ("error", "1 of 1 handler failed: unlucky — ValueError: no luck")

    assert run(operator, "run_again", *pks) == [
        ("error", "2 events have used up their retries and need your attention."),
        raised,
    ]
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 9
    [(level, sentence), error] = run(operator, "run_again", pks[0])
    assert level == "warning"
    assert re.fullmatch(r"1 event is not done yet. Next retry in \d min( \d+ s)?.", sentence)
    assert error == raised


def test_run_again_takes_the_oldest_event_first(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    heard = []

    def unlucky_at_first(message: Message, **arguments: Any) -> None:
        heard.append(message.body)
        if len(heard) <= 3:
            raise ValueError

    connect(message_received, unlucky_at_first)
    for body in ("one", "two", "three"):
        client.reply(message=body)

    run(operator, "run_again", *WebhookEvent.objects.values_list("pk", flat=True))

    assert heard[3:] == ["one", "two", "three"]


def test_too_many_selected_events_are_refused(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    event = reply()
    add_copies(event, 1_000)

    [(level, sentence)] = said(choose(operator, "run_again", event.pk, select_across=1))

    assert level == "error"
    assert sentence == (
        "Nothing was changed: you can select at most 1,000 events. "
        "For more, run “manage.py cellcast_run_handlers --failed”."
    )
    assert len(first) == 1


def test_only_a_command_that_does_the_same_is_recommended_for_too_many_events(
    operator: Client,
) -> None:
    event = make_invalid("{}")
    add_copies(event, 1_000)

    [(_level, sentence)] = said(choose(operator, "process_again", event.pk, select_across=1))
    assert sentence.endswith("For more, run “manage.py cellcast_reprocess”.")
    [(_level, sentence)] = said(choose(operator, "run_all_again", event.pk, select_across=1))
    assert sentence == "Nothing was changed: you can select at most 1,000 events."


# Process again


def test_process_again_stores_and_runs_what_is_understood_now(
    operator: Client, listen: Listen
) -> None:
    calls = listen(message_received)
    event = make_invalid(UNDERSTOOD_NOW)

    assert run(operator, "process_again", event.pk) == [
        ("success", "1 event has been read."),
        ("success", "1 event done: all its handlers have finished."),
    ]
    assert [call["message"].body for call in calls] == ["YES"]
    event.refresh_from_db()
    assert (event.outcome, event.kind) == ("stored", "reply")
    assert event.done_at is not None


def test_process_again_reads_the_chosen_event_and_no_other(operator: Client) -> None:
    _, chosen, _ = (make_invalid(UNDERSTOOD_NOW) for _ in range(3))
    run(operator, "process_again", chosen.pk)
    stored = WebhookEvent.objects.exclude(outcome="invalid")
    assert stored.get() == chosen


def test_process_again_says_what_is_still_invalid_and_what_never_was(
    operator: Client, client: WebhookClient
) -> None:
    client.status()
    stored = WebhookEvent.objects.get()
    event = make_invalid()

    question = choose(operator, "process_again", event.pk, stored.pk)
    assert "1 event was readable: there is nothing to read again." in text_of(
        question.content.decode()
    )
    sentences = said(confirm(operator, question))
    event.refresh_from_db()
    assert sentences == [("warning", f"1 event is still unreadable: {event.error}")]
    assert event.outcome == "invalid"
    assert event.error != "The body is not JSON."  # the present reason


@pytest.mark.django_db(transaction=True)
def test_actions_work_under_atomic_requests(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_transaction = []
    hears = Calls("hears")
    hears.during = lambda **kwargs: in_transaction.append(connection.in_atomic_block)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    connect(message_received, hears)
    operator = staff("view_webhookevent", "rerun_webhookevent", "reprocess_webhookevent")
    event = make_invalid(UNDERSTOOD_NOW)

    sentences = run(operator, "process_again", event.pk)

    assert sentences[0] == ("success", "1 event has been read.")
    assert in_transaction == [False]


# The permissions of the actions


@pytest.mark.parametrize(
    ("permission", "offered", "withheld"),
    [
        ("rerun_webhookevent", "run_again", "process_again"),
        ("reprocess_webhookevent", "process_again", "run_again"),
    ],
)
def test_each_action_has_a_permission_of_its_own(
    client: WebhookClient, connect: Connect, permission: str, offered: str, withheld: str
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, unlucky)
    client.reply()
    invalid = make_invalid(UNDERSTOOD_NOW)
    person = staff("view_webhookevent", permission)

    page = page_of(person, "webhookevent")
    assert f'value="{offered}"' in page
    assert f'value="{withheld}"' not in page
    run(person, withheld, *WebhookEvent.objects.values_list("pk", flat=True))
    assert len(unlucky) == 1
    invalid.refresh_from_db()
    assert invalid.outcome == "invalid"


def test_reader_is_offered_no_action(reader: Client, client: WebhookClient) -> None:
    client.status()

    assert 'name="action"' not in page_of(reader, "webhookevent")


def test_empty_list_offers_no_action(operator: Client) -> None:
    assert 'name="action"' not in page_of(operator, "webhookevent")


# The page that asks


def test_nothing_is_done_before_it_is_confirmed(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, unlucky)
    client.reply()
    invalid = make_invalid(UNDERSTOOD_NOW)
    pks = WebhookEvent.objects.values_list("pk", flat=True)

    for action in ("run_again", "run_all_again", "process_again"):
        page = choose(operator, action, *pks)
        assert 'name="confirmed"' in page.content.decode()

    assert len(unlucky) == 1
    invalid.refresh_from_db()
    assert invalid.outcome == "invalid"


def test_page_says_how_many_events_and_which_handlers(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    finished = Calls("finished")
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, finished)
    client.reply(message="done")
    connect(message_received, unlucky)
    client.reply(message="one")
    client.reply(message="two")
    client.reply(message="two")
    pks = WebhookEvent.objects.values_list("pk", flat=True)

    unfinished = text_of(choose(operator, "run_again", *pks).content.decode())
    everyone = text_of(choose(operator, "run_all_again", *pks).content.decode())

    assert "2 events." in unfinished
    assert "unlucky – for 2 events" in unfinished
    assert "finished – " not in unfinished
    assert "2 events had nothing left to run." in unfinished
    assert "will run again. If" not in unfinished
    assert "3 events." in everyone
    assert "will run again: finished – for 3 events unlucky – for 2 events" in everyone
    assert "will run for the first time: unlucky – for 1 event" in everyone
    assert "1 event has no handlers to run." in everyone
    assert "Handlers that already succeeded will run again." in everyone
    assert "stops starting new events after 20 seconds" in everyone


def test_page_says_for_how_many_events_nobody_is_left(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, unlucky)
    client.reply()
    message_received.disconnect(dispatch_uid="unlucky")
    event = WebhookEvent.objects.get()

    question = choose(operator, "run_again", event.pk)

    assert "1 event has no handler left to run." in text_of(question.content.decode())
    assert "This runs now" not in text_of(question.content.decode())


def test_page_about_invalid_events_names_all_handlers_and_the_queue(
    operator: Client, connect: Connect, settings: Any
) -> None:
    connect(message_received, Calls("confirm"))
    connect(opt_out_received, Calls("unsubscribe"))
    event = make_invalid(UNDERSTOOD_NOW)

    words = text_of(choose(operator, "process_again", event.pk).content.decode())
    assert "1 unreadable event will be read again." in words
    assert "confirm unsubscribe" in words
    assert "This runs now" in words

    settings.CELLCAST_RUN_HANDLERS = "task"
    words = text_of(choose(operator, "process_again", event.pk).content.decode())
    assert "The task queue runs the handlers shortly afterwards." in words
    assert "This runs now" not in words


def test_name_of_a_handler_is_escaped(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    connect(message_received, Calls("<b>odd</b>", error=ValueError()))
    client.reply()
    page = choose(operator, "run_again", WebhookEvent.objects.get().pk).content.decode()

    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_what_was_confirmed_is_done_whatever_the_list_shows_by_then(
    operator: Client, client: WebhookClient, connect: Connect, settings: Any
) -> None:
    moods = iter([ValueError("no"), None])

    def moody(**arguments: Any) -> None:
        if error := next(moods):
            raise error

    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 9
    connect(message_received, moody)
    client.reply()
    event = WebhookEvent.objects.get()
    question = choose(operator, "run_again", event.pk)
    form = hidden_fields(every(question.content.decode(), "form")[-1])

    response = operator.post(url_of("webhookevent", outcome="failed"), form, follow=True)

    assert said(response) == [("success", "1 event done: all its handlers have finished.")]


def test_all_events_of_several_pages_can_be_selected(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    events = [reply(message=str(number)) for number in range(actions.CHUNK_SIZE + 1)]
    first.error = None
    one = events[0].pk

    question = choose(operator, "run_again", one, select_across=1)

    assert "101 events." in text_of(question.content.decode())
    assert question.content.decode().count("<input") < 20  # a form may have 1,000 fields
    assert said(confirm(operator, question)) == [
        ("success", "101 events done: all their handlers have finished.")
    ]


def test_keys_that_nobody_chose_on_a_page_do_no_harm(operator: Client) -> None:
    keys = f"x,-1,²,{'9' * 30},,77"
    for key in (keys, ""):
        form = {"action": "run_again", "_selected_action": 1, "confirmed": "yes", "keys": key}
        assert said(operator.post(url_of("webhookevent"), form, follow=True)) == []


def test_no_event_is_begun_when_time_is_up(
    operator: Client, client: WebhookClient, first: Calls, clock: Clock
) -> None:
    first.error = ValueError()
    for body in ("one", "two", "three"):
        client.reply(message=body)
    pks = WebhookEvent.objects.values_list("pk", flat=True)
    question = choose(operator, "run_again", *pks)
    first.error, first.during = None, lambda **arguments: clock.sleep(21)

    assert said(confirm(operator, question)) == [
        ("success", "1 event done: all its handlers have finished."),
        (
            "warning",
            "Stopped after 20 seconds with 2 events left. Run it again to continue.",
        ),
    ]
    assert WebhookEvent.objects.pending().count() == 2


# Run to all


def test_run_all_again_calls_the_handlers_that_had_finished(
    operator: Client, client: WebhookClient, listen: Listen
) -> None:
    calls = listen(message_received)
    client.reply(message="YES")
    event = WebhookEvent.objects.get()

    assert run(operator, "run_all_again", event.pk) == [
        ("success", "1 event done: all its handlers have finished.")
    ]
    assert [call["message"].body for call in calls] == ["YES", "YES"]


def test_what_nobody_hears_is_run_for_nobody(operator: Client, client: WebhookClient) -> None:
    client.reply()

    assert run(operator, "run_all_again", WebhookEvent.objects.get().pk) == [
        ("info", "1 event has no handlers to run.")
    ]


# On the page of one event


def offered(client: Client, event: WebhookEvent) -> dict[str, str]:
    """Return what the page of an event offers: the address of each page that asks, by its name."""
    page = page_of(client, "webhookevent", "change", event.pk)
    replays = [address for address in addresses(page) if "/replay/" in address]
    return {address.split("/")[-2]: address for address in replays}


def press(client: Client, address: str) -> Any:
    """Press the button of the page at this address, once it has been asked."""
    form = every(client.get(address).content.decode(), "form")[-1]
    return client.post(address, hidden_fields(form), follow=True)


def test_page_of_an_event_offers_what_can_be_done_with_it_and_shows_what_became_of_it(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    moods = iter([ValueError("no"), None, None])

    def moody(**arguments: Any) -> None:
        if error := next(moods):
            raise error

    connect(message_received, moody)
    client.reply()
    event = WebhookEvent.objects.get()
    here = url_of("webhookevent", "change", event.pk)

    addresses = offered(operator, event)
    assert list(addresses) == ["run_again", "run_all_again"]
    assert f'href="{here}"' in operator.get(addresses["run_again"]).content.decode()
    response = press(operator, addresses["run_again"])
    assert response.redirect_chain == [(here, 302)]
    assert said(response) == [("success", "1 event done: all its handlers have finished.")]
    assert list(offered(operator, event)) == ["run_all_again"]
    response = operator.get(addresses["run_again"], follow=True)
    assert response.redirect_chain == [(here, 302)]
    assert said(response) == [("info", "1 event had nothing left to run.")]


def test_page_of_an_invalid_event_offers_to_read_it_again(operator: Client) -> None:
    event = make_invalid(UNDERSTOOD_NOW)

    addresses = offered(operator, event)
    assert list(addresses) == ["process_again"]
    assert said(press(operator, addresses["process_again"])) == [
        ("success", "1 event has been read."),
        ("success", "1 event done: all its handlers have finished."),
    ]


def test_page_of_an_event_offers_nothing_to_those_who_may_not(
    reader: Client, client: WebhookClient, connect: Connect
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, unlucky)
    client.reply()
    event = WebhookEvent.objects.get()

    assert offered(reader, event) == {}
    for action in REPLAYS:
        address = url_of("webhookevent", "replay", event.pk, action)
        assert reader.get(address).status_code == 403
        assert reader.post(address).status_code == 403
    assert event.handler_results == WebhookEvent.objects.get().handler_results


def test_one_who_may_run_handlers_again_but_not_view_events_is_refused(
    client: WebhookClient,
) -> None:
    client.reply()
    address = url_of("webhookevent", "replay", WebhookEvent.objects.get().pk, "run_all_again")

    assert staff("rerun_webhookevent").post(address).status_code == 403


@pytest.mark.parametrize("pk", [77, int("9" * 30)])
def test_event_or_action_that_is_not_there_is_not_found(
    operator: Client, client: WebhookClient, pk: int
) -> None:
    client.reply()
    event = WebhookEvent.objects.get()

    unknown_event = url_of("webhookevent", "replay", pk, "run_again")
    unknown_action = url_of("webhookevent", "replay", event.pk, "delete")
    assert operator.get(unknown_event).status_code == 404
    assert operator.get(unknown_action).status_code == 404


# Handlers that are not connected, and what ran before


def test_page_says_which_handler_failed_but_is_not_connected_and_which_never_ran(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    gone = Calls("gone", error=ValueError())
    newcomer = Calls("newcomer")
    connect(message_received, gone)
    client.reply()
    message_received.disconnect(dispatch_uid="gone")
    connect(message_received, newcomer)
    event = WebhookEvent.objects.get()

    words = text_of(operator.get(offered(operator, event)["run_again"]).content.decode())

    assert "gone failed before and is not connected here: it will not run." in words
    assert "will run for the first time: newcomer – for 1 event that it has never run for" in words
    assert "will run again" not in words


def test_result_names_only_what_ran_now(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    moods = iter([ValueError("no"), None])

    def moody(**arguments: Any) -> None:
        if error := next(moods):
            raise error

    gone = Calls("gone", error=ValueError())
    connect(message_received, moody)
    connect(message_received, gone)
    client.reply()
    message_received.disconnect(dispatch_uid="gone")
    event = WebhookEvent.objects.get()

    sentences = said(press(operator, offered(operator, event)["run_again"]))

    assert not [sentence for _level, sentence in sentences if "gone" in sentence]


def test_reading_again_on_the_queue_says_that_handlers_are_waited_for(
    operator: Client, listen: Listen, settings: Any
) -> None:
    settings.CELLCAST_RUN_HANDLERS = "task"
    dummy = f"{tasks_package().__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {"default": {"BACKEND": dummy}}
    listen(message_received)

    assert run(operator, "process_again", make_invalid(UNDERSTOOD_NOW).pk) == [
        ("success", "1 event has been read."),
        ("warning", "1 event is queued: its handlers run shortly."),
    ]


# Who did it


def test_log_of_the_admin_says_who_did_what_with_which_event(
    operator: Client, client: WebhookClient, connect: Connect
) -> None:
    unlucky = Calls("unlucky", error=ValueError())
    connect(message_received, unlucky)
    client.reply()
    event = WebhookEvent.objects.get()
    invalid = make_invalid()

    choose(operator, "run_again", event.pk)
    assert not LogEntry.objects.exists()  # nothing has been confirmed
    run(operator, "run_again", event.pk)
    run(operator, "run_all_again", event.pk)
    run(operator, "process_again", invalid.pk)

    entries = LogEntry.objects.order_by("pk")
    assert [(entry.object_id, entry.change_message) for entry in entries] == [
        (str(event.pk), "Ran the unfinished handlers again."),
        (str(event.pk), "Ran all handlers again."),
        (str(invalid.pk), "Read it again."),
    ]
    assert {entry.user.username for entry in entries} == {"staff-0"}
    assert CUSTOMER not in "".join(map(str, entries))


# State and reason

OUTCOME = {"shop.handlers.confirm": {"at": "2024-08-09T06:37:47+00:00", "error": ""}}
FIVE_HOURS_AGO = timezone.now() - timedelta(hours=5)
IN_FIVE_HOURS = timezone.now() + timedelta(hours=5)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"handler_results": OUTCOME}, "✓ done All handlers have finished."),
        ({"handler_results": {}}, "✓ done No handler was connected."),
        ({"duplicate": True}, "• duplicate Already reported, so no handlers ran."),
        ({"invalid": True}, "✕ unreadable There is no message id."),
        ({"failed": True}, "✕ failed No more retries: it needs your attention."),
        (
            {"pending": True, "handler_results": OUTCOME, "next_run_at": FIVE_HOURS_AGO},
            "… retrying Overdue by 5 h",
        ),
        (
            {"pending": True, "handler_results": OUTCOME, "next_run_at": IN_FIVE_HOURS},
            "… retrying Next retry in ",
        ),
        (
            {"pending": True, "handler_results": {}, "attempts": 1},
            "of 12 attempts made",
        ),
    ],
)
def test_page_of_an_event_begins_with_its_state_and_the_reason(
    reader: Client, values: dict[str, Any], sentence: str
) -> None:
    event = WebhookEventFactory.create(**values)

    words = text_of(page_of(reader, "webhookevent", "change", event.pk))

    assert sentence in words
    assert words.index(sentence) < words.index("Body Formatted")


def test_event_that_no_handler_has_been_called_for_yet_is_waiting(reader: Client) -> None:
    WebhookEventFactory.create(pending=True, handler_results={})

    assert "… waiting" in text_of(page_of(reader, "webhookevent"))


# Retry all events of a handler


def test_all_events_of_a_failing_handler_are_retried_together(
    operator: Client, client: WebhookClient, first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    second.error = ValueError("no luck")
    client.reply(message="one")
    client.reply(message="two")
    second.error, first.error = None, ValueError("no luck")
    client.reply(message="of another handler")
    url = url_of("webhookevent", "retry", handler="second")

    question = operator.get(url)
    assert "second – for 2 events" in text_of(question.content.decode())
    assert len(second) == 3

    form = question.content.decode().rpartition("<form")[2]
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    answer = operator.post(url, dict(fields), follow=True)
    assert said(answer) == [("success", "2 events done: all their handlers have finished.")]
    assert answer.redirect_chain[0][0] == url_of("webhookevent", handler="second")
    assert (len(first), len(second)) == (3, 5)

    assert said(operator.get(url, follow=True)) == []


def test_handler_is_retried_by_nobody_who_may_not_run_it(reader: Client) -> None:
    response = reader.get(url_of("webhookevent", "retry", handler="second"))

    assert response.status_code == 403
