"""What a person can do with events and calls: the page that asks, what is done, what is said."""

from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connection, connections
from django.test import Client
from django.utils import timezone

from cellcast_django.admin import confirmation
from cellcast_django.admin.actions import (
    CALL_ACTIONS,
    EVENT_ACTIONS,
    Action,
    Reprocess,
    RunAgain,
    RunCallAgain,
    SkipCall,
)
from cellcast_django.admin.display.badges import sentence_of
from cellcast_django.admin.display.texts import exact_time
from cellcast_django.factories import HandlerCallFactory, WebhookEventFactory
from cellcast_django.handlers import run_due
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.receiving import tasks_package
from cellcast_django.signals import exactly_once, in_order, message_received
from tests.admin_pages import (
    CUSTOMER,
    ID,
    levels,
    listed,
    make_invalid,
    page_of,
    staff,
    url_of,
)
from tests.clock import Clock
from tests.database_faults import just_before, refused_for_another, refusing
from tests.handlers import Calls, Connect, Listen, call_of, errors_of, reply, state_of
from tests.html import every, hidden_fields, words

pytestmark = pytest.mark.django_db

UNDERSTOOD_NOW = f'{{"_id": "{ID}", "sender": "{CUSTOMER}", "message": "YES"}}'


def choose(
    client: Client, action: str, *selected: int, model: str = "webhookevent", **data: Any
) -> Any:
    """Choose an action for the selected rows, as the list does."""
    data = {"action": action, "_selected_action": selected, "index": 0, "select_across": 0} | data
    return client.post(url_of(model), data, follow=True)


def confirm(client: Client, question: Any, url: str = "", *, model: str = "webhookevent") -> Any:
    """Press the button of the page that asks."""
    form = every(question.content.decode(), "form")[-1]
    return client.post(url or url_of(model), hidden_fields(form), follow=True)


def post(client: Client, url: str, row: Any, **data: Any) -> Any:
    """Confirm an action on a row without being asked, as by a form opened earlier."""
    return client.post(url, {"confirmed": "yes", "keys": row.pk} | data, follow=True)


def run(client: Client, action: str, *selected: int, model: str = "webhookevent") -> Any:
    """Choose an action, confirm it if the page asks, and return the last page."""
    response = choose(client, action, *selected, model=model)
    asks = 'name="confirmed"' in response.content.decode()
    return confirm(client, response, model=model) if asks else response


def counts(question: Any) -> dict[str, int]:
    """Return how many events a page that asks says it affects, leaves alone, and so on."""
    found = every(question.content.decode(), "p[@data-count]")
    return {each.get("id", "")[9:]: int(each.get("data-count", "")) for each in found}


def planned(question: Any) -> dict[str, int]:
    """Return how many calls of each handler will be made, or skipped."""
    found = every(question.content.decode(), "li[@data-handler]")
    return {each.get("data-handler", ""): int(each.get("data-count", "")) for each in found}


def keys() -> list[int]:
    return list(WebhookEvent.objects.order_by("pk").values_list("pk", flat=True))


def log() -> list[tuple[str | None, str]]:
    entries = LogEntry.objects.order_by("pk")
    return list(entries.values_list("object_id", "change_message"))


@pytest.fixture
def gone(connect: Connect) -> Calls:
    """A handler that fails. ``disconnect`` takes it away, as a renamed one."""
    calls = Calls("gone", error=ValueError("no luck"))
    connect(message_received, calls)
    return calls


def disconnect(name: str = "gone") -> None:
    message_received.disconnect(dispatch_uid=name)


def of(handler: str) -> list[int]:
    calls = HandlerCall.objects.filter(handler=handler).order_by("pk")
    return list(calls.values_list("pk", flat=True))


# Run again


def failing(handler: Calls, *texts: str) -> list[WebhookEvent]:
    """Receive replies on which the handler fails; from then on it does not."""
    handler.error = ValueError("not yet")
    events = [reply(message=text) for text in texts or ["YES"]]
    handler.error = None
    return events


def test_retry_calls_only_unfinished_handlers(
    operator: Client, first: Calls, second: Calls
) -> None:
    [event] = failing(second)

    assert levels(run(operator, "run_again", event.pk)) == ["success"]
    assert (len(first), len(second)) == (1, 2)
    assert state_of(event) == "done"
    assert levels(run(operator, "run_again", event.pk)) == ["info"]
    assert len(second) == 2
    assert RunAgain().run(event.pk, "ann") == [], "another process has been faster"
    assert len(second) == 2


def test_run_that_fails_again_says_that_it_is_not_done_yet(operator: Client, gone: Calls) -> None:
    event = reply()

    for model, key in (("webhookevent", event.pk), ("handlercall", event.calls.get().pk)):
        response = run(operator, "run_again", key, model=model)
        [said] = response.context["messages"]
        assert "not done yet" in str(said) and "retrying" in str(said)


@pytest.mark.parametrize("place", ["list", "handler"])
def test_only_the_oldest_of_too_many_are_taken_oldest_first(
    operator: Client, first: Calls, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "MAX_SELECTED", 2)
    events = failing(first, "one", "two", "three")
    url = of_handler("run_again", "first") if place == "handler" else ""

    question = operator.get(url) if url else choose(operator, "run_again", *keys()[::-1])

    assert counts(question) == {"affected": 2}
    assert every(question.content.decode(), "p[@id='cellcast-has-more']")
    confirm(operator, question, url)
    assert [state_of(event) for event in events] == ["done", "done", "pending"]
    assert [call["message"].body for call in first.arguments[3:]] == ["one", "two"]


@pytest.mark.parametrize("place", ["list", "event"])
def test_double_click_runs_handlers_once(operator: Client, gone: Calls, place: str) -> None:
    event = reply()
    url = url_of("webhookevent", "act", event.pk, "run_again") if place == "event" else ""
    question = operator.get(url) if url else choose(operator, "run_again", event.pk)

    confirm(operator, question, url)
    response = confirm(operator, question, url)

    assert len(gone) == 2  # when it came, and once more
    assert levels(response) == ["info"]
    assert len(log()) == 1


def test_confirmation_that_ran_something_is_not_sent_again(
    operator: Client, first: Calls, second: Calls
) -> None:
    first.error = second.error = ValueError()
    event = reply()
    question = choose(operator, "run_again", event.pk)
    refusals = ExitStack()
    first.during = lambda **arguments: refusals.enter_context(refusing("^UPDATE .*handlercall"))

    with pytest.raises(OperationalError):
        confirm(operator, question)
    refusals.close()

    assert levels(confirm(operator, question)) == ["info"]
    assert (len(first), len(second)) == (2, 1)


# Read again


def test_read_again_stores_and_runs_what_is_understood_now(
    operator: Client, listen: Listen
) -> None:
    calls = listen(message_received)
    event = make_invalid(UNDERSTOOD_NOW)

    assert levels(run(operator, "reprocess", event.pk)) == ["success"]
    assert [call["message"].body for call in calls] == ["YES"]
    event.refresh_from_db()
    assert (event.outcome, event.kind, event.state) == ("stored", "reply", "done")
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(event.pk), f"{Reprocess.log}.")
    assert entry.user.username == "staff-0"
    assert CUSTOMER not in str(entry)


def test_read_again_keeps_what_is_still_invalid(operator: Client) -> None:
    stored = reply()
    event = make_invalid()
    before = event.error

    question = choose(operator, "reprocess", event.pk, stored.pk)
    assert counts(question) == {"affected": 1, "unaffected": 1}
    response = confirm(operator, question)

    event.refresh_from_db()
    assert event.outcome == "invalid"
    assert event.error != before  # the present reason
    assert levels(response) == ["error"]
    assert event.error in response.text  # in the list


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

    assert levels(run(operator, "reprocess", event.pk))[0] == "success"
    assert in_transaction == [False]


def test_read_again_on_the_queue_reports_waiting_handlers(
    operator: Client, listen: Listen, settings: Any
) -> None:
    settings.CELLCAST_RUN_HANDLERS = "default"
    dummy = f"{tasks_package().__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {"default": {"BACKEND": dummy}}
    calls = listen(message_received)

    response = run(operator, "reprocess", make_invalid(UNDERSTOOD_NOW).pk)

    assert levels(response) == ["warning"]
    assert calls == []


# Dismiss, and undo it


def test_dismissed_events_are_no_longer_counted_but_still_found(operator: Client) -> None:
    events = [make_invalid(), make_invalid()]
    stored = reply()

    question = choose(operator, "dismiss", *keys())
    assert counts(question) == {"affected": 2, "unaffected": 1}
    assert levels(confirm(operator, question)) == ["success"]

    pks = {event.pk for event in events}
    assert not WebhookEvent.objects.invalid().exists()
    assert listed(operator, "webhookevent", outcome="invalid") == []
    assert set(listed(operator, "webhookevent", outcome="dismissed")) == pks
    assert set(listed(operator, "webhookevent")) == {*pks, stored.pk}
    assert log() == [(None, "Dismissed: 2 events.")]


@pytest.mark.django_db(transaction=True)
def test_dismissal_is_tried_again_after_a_deadlock(operator: Client) -> None:
    event = make_invalid()
    with refusing("^UPDATE .*webhookevent", error=refused_for_another(), times=1) as refusals:
        assert levels(run(operator, "dismiss", event.pk)) == ["success"]
    assert refusals.count == 1


def test_dismissal_can_be_undone(operator: Client) -> None:
    event = make_invalid()
    assert list(offered(operator, event)) == ["reprocess", "dismiss"]
    press(operator, offered(operator, event)["dismiss"])

    assert list(offered(operator, event)) == ["reprocess", "undo_dismissal"]
    press(operator, offered(operator, event)["undo_dismissal"])

    assert WebhookEvent.objects.invalid().get() == event
    assert levels(run(operator, "undo_dismissal", event.pk)) == ["info"]
    assert [message for _pk, message in log()] == ["Dismissed.", "Undid the dismissal."]


@pytest.mark.parametrize(
    ("action", "dismissed_at"), [("dismiss", None), ("undo_dismissal", timezone.now())]
)
def test_dismissal_skips_events_another_process_has_read(
    operator: Client, action: str, dismissed_at: Any
) -> None:
    event = make_invalid(dismissed_at=dismissed_at)

    def read_elsewhere() -> None:
        WebhookEvent.objects.update(outcome="stored")

    with just_before("^UPDATE .*webhookevent", read_elsewhere):
        response = run(operator, action, event.pk)

    assert levels(response) == ["info"]
    assert WebhookEvent.objects.get().dismissed_at == dismissed_at
    assert log() == []


# Calls


def calls_shown(client: Client, event: WebhookEvent) -> dict[str, Any]:
    rows = every(page_of(client, "webhookevent", "change", event.pk), "tr[@data-handler]")
    return {row.get("data-handler", ""): row for row in rows}


def offered_of(row: Any) -> dict[str, str]:
    links = every(row, "a[@data-action]")
    return {link.get("data-action", ""): link.get("href", "") for link in links}


def test_user_skips_a_call_from_its_row(operator: Client, first: Calls, gone: Calls) -> None:
    event = reply()
    rows = calls_shown(operator, event)
    assert [list(offered_of(rows[name])) for name in ("gone", "first")] == [
        ["run_again", "skip"],
        ["run_again"],
    ]
    assert list(rows) == ["gone", "first"], "what fails comes first"
    url = offered_of(rows["gone"])["skip"]

    assert levels(press(operator, url)) == ["success"]
    call = call_of(event, "gone")
    assert (state_of(event), call.state, call.skipped_by) == ("done", "skipped", "staff-0")
    assert "staff-0" in words(calls_shown(operator, event)["gone"])
    assert log() == [(str(call.pk), f"{SkipCall.log} gone.")]
    assert levels(operator.get(url, follow=True)) == ["info"]  # nothing is left to skip


def test_many_calls_are_skipped_from_their_list(
    operator: Client, first: Calls, gone: Calls
) -> None:
    first.error = ValueError("also no luck")
    events = [reply(message=str(number)) for number in range(3)]
    chosen = of("gone")

    question = choose(operator, "skip", *chosen, model="handlercall")
    assert counts(question) == {"affected": 3}
    assert planned(question) == {"gone": 3}
    assert levels(confirm(operator, question, model="handlercall")) == ["success"]
    assert [list(errors_of(event)) for event in events] == [["first"]] * 3
    assert log() == [(None, f"{SkipCall.log} gone: 3 calls.")]
    assert levels(run(operator, "skip", *chosen, model="handlercall")) == ["info"]
    run(operator, "skip", *chosen, *of("first"), model="handlercall")
    assert log()[1:] == [(None, f"{SkipCall.log} first: 3 calls.")], "what it has changed"


@pytest.mark.parametrize("place", ["calls", "events", "event"])
def test_several_calls_of_a_contact_are_run_again_once_each(
    operator: Client, gone: Calls, place: str
) -> None:
    """Whoever ends a call in order makes the contact's next one."""
    in_order(exactly_once(gone))
    events = [reply(message=str(number)) for number in range(3)]
    gone.error = None
    gone.arguments.clear()
    if place == "calls":
        response = run(operator, "run_again", *of("gone"), model="handlercall")
    elif place == "events":
        response = run(operator, "run_again", *keys())
    else:
        response = press(operator, url_of("webhookevent", "act", events[0].pk, "run_again"))
    run_due()
    assert gone.heard() == ["0", "1", "2"]
    assert levels(response) == ["success"], "what another's end has made was run again, too"
    assert {state_of(event) for event in events} == {"done"}


@pytest.mark.parametrize("action", [RunAgain, RunCallAgain])
def test_person_is_told_of_a_call_that_a_colleague_made_meanwhile(
    first: Calls, action: type[Action]
) -> None:
    """It had begun before the click; skipped, it would have stayed so, and not been run again."""
    [event] = failing(first)
    for ended, count in (("done", 1), ("skipped", 0)):
        began_at, call = timezone.now(), HandlerCall.objects.filter(event=event)
        clicked = action()
        call.update(state=ended, started_at=began_at, ended_at=timezone.now(), next_attempt_at=None)
        pk = event.pk if action is RunAgain else call.get().pk
        assert len(clicked.run(pk, "ann")) == count
    assert len(first) == 1


def of_handler(action: str, handler: str = "gone") -> str:
    return url_of("handlercall", "of_handler", action, handler=handler)


def test_user_skips_a_renamed_handler_everywhere(
    operator: Client, first: Calls, gone: Calls
) -> None:
    done = reply(message="done")
    skipped = HandlerCall.objects.filter(pk=call_of(done, "gone").pk)
    skipped.update(state="done", next_attempt_at=None, failing_since=None)
    for number in range(2):
        reply(message=str(number))
    HandlerCallFactory.create(event=done, handler="gone", signal="another", waiting=True)
    disconnect()

    question = operator.get(of_handler("skip"))
    assert counts(question) == {"affected": 3}
    assert planned(operator.get(of_handler("run_again"))) == {"gone": 2}
    response = confirm(operator, question, of_handler("skip"))

    failing = url_of("handlercall", handler="gone", state="failing", test="no")
    assert response.redirect_chain[0][0] == failing, "what still fails, not all that is done"
    assert levels(response) == ["success"]
    assert WebhookEvent.objects.done().count() == 3
    assert skipped.get().state == "done"
    assert levels(operator.get(of_handler("skip"), follow=True)) == []
    for unknown in ("", "\0"):  # PostgreSQL refuses a text with it
        assert levels(operator.get(of_handler("skip", unknown), follow=True)) == []


@pytest.mark.parametrize("action", CALL_ACTIONS)
def test_page_of_a_handler_leaves_others_and_tests_out_like_the_count(
    operator: Client, first: Calls, gone: Calls, action: Any
) -> None:
    first.error = ValueError("of another handler")
    reply(message="of a customer")
    WebhookEvent.objects.filter(pk=reply(message="of a Test Send").pk).update(is_test=True)
    assert counts(operator.get(of_handler(action.name))) == {"affected": 1}


# The permissions of the actions


@pytest.mark.parametrize("action", [*EVENT_ACTIONS, *CALL_ACTIONS])
def test_action_requires_its_permission(action: Any, gone: Calls) -> None:
    WebhookEventFactory.create(invalid=True)
    reply()
    permissions = {each.permission for each in EVENT_ACTIONS} - {action.permission}
    person = staff("view_webhookevent", *(f"{each}_webhookevent" for each in permissions))
    model = action.model._meta.model_name

    options = {each.get("value") for each in every(page_of(person, model), "option")}
    assert action.name not in options
    rows = list(action.model.objects.values_list("pk", flat=True))
    run(person, action.name, *rows, model=model)
    for pk in rows:
        url = url_of(model, "act", pk, action.name)
        assert person.get(url).status_code == person.post(url).status_code == 403
    assert (len(gone), log()) == (1, [])
    assert WebhookEvent.objects.invalid().count() == 1
    assert HandlerCall.objects.get().state == "retrying"


def test_reader_is_offered_no_action(reader: Client, gone: Calls) -> None:
    event = reply()
    make_invalid()

    assert 'name="action"' not in page_of(reader, "webhookevent")
    empty = page_of(reader, "webhookevent", kind="opt_out")
    assert 'name="action"' not in empty
    assert 'name="action"' not in page_of(reader, "handlercall", handler="gone")
    assert offered(reader, event) == {}
    assert offered_of(calls_shown(reader, event)["gone"]) == {}
    for action in CALL_ACTIONS:
        assert reader.get(of_handler(action.name)).status_code == 403


def test_action_on_events_hidden_from_the_user_is_refused(gone: Calls) -> None:
    event = reply()
    person = staff("rerun_webhookevent")
    for url in (
        url_of("webhookevent", "act", event.pk, "run_again"),
        url_of("handlercall", "act", call_of(event, "gone").pk, "run_again"),
        of_handler("run_again"),
    ):
        assert person.post(url).status_code == 403


def test_action_ignores_events_hidden_by_the_site(
    operator: Client, gone: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, hidden = reply(message="one"), reply(message="two")
    model_admin, rows = site.get_model_admin(WebhookEvent), WebhookEvent.objects.exclude
    monkeypatch.setattr(model_admin, "get_queryset", lambda request: rows(pk=hidden.pk))
    chosen = {"action": "run_again", "_selected_action": shown.pk}

    assert listed(operator, "handlercall") == [call_of(shown, "gone").pk]
    for url in (url_of("webhookevent", "act", shown.pk, "run_again"), url_of("webhookevent")):
        post(operator, url, hidden, **chosen)
    of_hidden = call_of(hidden, "gone")
    for url in (of_handler("run_again"), url_of("handlercall")):
        post(operator, url, of_hidden, **chosen | {"_selected_action": of_hidden.pk})

    assert len(gone) == 2  # when they arrived
    assert log() == []


# The page that asks


def test_handler_name_is_escaped(operator: Client, connect: Connect) -> None:
    connect(message_received, Calls("<b>odd</b>", error=ValueError()))
    page = choose(operator, "run_again", reply().pk).content.decode()

    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_no_event_starts_after_the_time_limit(operator: Client, first: Calls, clock: Clock) -> None:
    failing(first, "one", "two", "three")
    question = choose(operator, "run_again", *keys())
    first.during = lambda **arguments: clock.sleep(21)

    response = confirm(operator, question)

    assert levels(response) == ["success", "warning"]
    assert WebhookEvent.objects.pending().count() == 2
    assert log() == [(None, f"{RunAgain.log}: 1 event.")]


# On the page of one event


def offered(client: Client, event: WebhookEvent) -> dict[str, str]:
    """Return what the page of an event offers: the address of each page that asks, by its name."""
    page = page_of(client, "webhookevent", "change", event.pk)
    links = [
        link for link in every(page, "a[@data-action]") if "/webhookevent/" in link.get("href", "")
    ]
    return {link.get("data-action", ""): link.get("href", "") for link in links}


def press(client: Client, address: str) -> Any:
    """Press the button of the page at this address, once it has been asked."""
    return confirm(client, client.get(address), address)


@pytest.mark.parametrize("pk", [77, int("9" * 30)])
def test_unknown_event_or_action_is_not_found(operator: Client, pk: int) -> None:
    event = reply()

    for model, page, *arguments in (
        ("webhookevent", "act", pk, "run_again"),
        ("webhookevent", "act", event.pk, "delete"),
        ("handlercall", "act", pk, "run_again"),
        ("handlercall", "of_handler", "dismiss"),
    ):
        assert operator.get(url_of(model, page, *arguments)).status_code == 404


# State and reason

FIVE_HOURS_AGO = timezone.now() - timedelta(hours=5)
IN_FIVE_HOURS = timezone.now() + timedelta(hours=5)


RETRYING = {"call__state": "retrying", "call__attempts": 1}
STATES: list[dict[str, Any]] = [
    {},
    {"failed": True, "call__state": "done"},
    {"failed": True, "call__state": "skipped"},
    {"duplicate": True},
    {"invalid": True},
    {"invalid": True, "dismissed_at": FIVE_HOURS_AGO, "error": "odd"},
    {"outcome": "deferred", "error": "Refused: now", "next_read_at": IN_FIVE_HOURS},
    {"failed": True},
    *(
        {"pending": True, **RETRYING, "call__next_attempt_at": at}
        for at in (FIVE_HOURS_AGO, IN_FIVE_HOURS)
    ),
]


def test_event_page_starts_with_state_and_a_sentence_of_its_own(reader: Client) -> None:
    sentences = set()
    for values in STATES:
        event = WebhookEventFactory.create(**values)
        page = page_of(reader, "webhookevent", "change", event.pk)
        state = every(page, "section[@class='module cellcast-summary']/p")[0]
        assert words(state).endswith(sentence_of(event))
        assert page.index("cellcast-summary") < page.index("cellcast-body-heading")
        assert event.error in words(state)
        if event.outcome == "deferred":
            assert exact_time(IN_FIVE_HOURS) in words(state)
        if event.outcome == "invalid":
            assert not every(page, "h2[@id='cellcast-handlers-heading']")
        sentences.add(sentence_of(event))
    assert len(sentences - {""}) == len(STATES)
    assert any(exact_time(FIVE_HOURS_AGO) in each and "1 of 12" in each for each in sentences)


def test_calls_have_no_buttons_on_a_site_without_their_list(
    operator: Client, first: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.error = ValueError("no")
    event = reply()
    assert "/act/skip/" in page_of(operator, "webhookevent", "change", event.pk)
    registered: dict[Any, Any] = site._registry
    monkeypatch.delitem(registered, HandlerCall)
    assert "/handlercall/" not in page_of(operator, "webhookevent", "change", event.pk)
