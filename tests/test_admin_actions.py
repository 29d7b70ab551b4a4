"""What a person can do with events: the page that asks, what is done, and what is said of it."""

from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from cellcast_django.admin.event_actions import (
    ACTIONS,
    Reprocess,
    RunAgain,
    RunAllAgain,
    SkipHandler,
)
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connection, connections
from django.test import Client
from django.utils import timezone

from cellcast_django.admin import confirmation
from cellcast_django.admin.display.badges import Tone, sentence_of
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.health import held_up, real_events
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.receiving import tasks_package
from cellcast_django.signals import in_order, message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import (
    CUSTOMER,
    ID,
    listed,
    make_invalid,
    page_of,
    staff,
    text_of,
    url_of,
)
from tests.clock import Clock
from tests.database_faults import just_before, refusing
from tests.handlers import Calls, Connect, Listen, reply
from tests.html import addresses, every, hidden_fields, tones, words
from tests.many import add_copies

pytestmark = pytest.mark.django_db

UNDERSTOOD_NOW = f'{{"_id": "{ID}", "sender": "{CUSTOMER}", "message": "YES"}}'


def choose(client: Client, action: str, *selected: int, **data: Any) -> Any:
    """Choose an action for the selected events, as the list does."""
    data = {"action": action, "_selected_action": selected, "index": 0, "select_across": 0} | data
    return client.post(url_of("webhookevent"), data, follow=True)


def confirm(client: Client, question: Any, url: str = "", **data: Any) -> Any:
    """Press the button of the page that asks."""
    form = every(question.content.decode(), "form")[-1]
    assert every(form, "button"), "There is no button."
    url = url or url_of("webhookevent")
    return client.post(url, hidden_fields(form) | data, follow=True)


def post(client: Client, url: str, event: WebhookEvent, **data: Any) -> Any:
    """Confirm an action on an event without being asked, as by a form opened earlier."""
    return client.post(url, {"confirmed": "yes", "keys": event.pk} | data, follow=True)


def levels(response: Any) -> list[str]:
    """Return the levels of what the page says."""
    assert response.status_code == 200
    return [message.level_tag for message in response.context["messages"]]


def run(client: Client, action: str, *selected: int, **data: Any) -> Any:
    """Choose an action, confirm it if the page asks, and return the last page."""
    response = choose(client, action, *selected)
    asks = 'name="confirmed"' in response.content.decode()
    return confirm(client, response, **data) if asks else response


def counts(question: Any) -> dict[str, int]:
    """Return how many events a page that asks says it affects, leaves alone, and so on."""
    found = every(question.content.decode(), "p[@data-count]")
    return {each.get("id", "")[9:]: int(each.get("data-count", "")) for each in found}


def planned(question: Any, when: str) -> dict[str, int]:
    """Return for how many events each handler will run ``again`` or for the ``first`` time."""
    found = every(question.content.decode(), f"li[@data-{when}]")
    return {each.get("data-handler", ""): int(each.get(f"data-{when}", "")) for each in found}


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


# Run again


def test_retry_calls_only_unfinished_handlers(
    operator: Client, first: Calls, second: Calls
) -> None:
    second.error = ValueError("not yet")
    event = reply()
    second.error = None

    assert levels(run(operator, "run_again", event.pk)) == ["success"]
    assert (len(first), len(second)) == (1, 2)
    event.refresh_from_db()
    assert event.done_at is not None
    assert levels(run(operator, "run_again", event.pk)) == ["info"]
    assert len(second) == 2


def test_retry_reports_failures(operator: Client, first: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    first.error = ValueError("no luck")
    events = [reply(message="one"), reply(message="two")]

    response = run(operator, "run_again", *keys())
    assert levels(response) == ["error"]
    assert "ValueError: no luck" in response.text  # in the list, beside each event
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 9
    assert levels(run(operator, "run_again", events[0].pk)) == ["warning"]
    events[0].refresh_from_db()
    assert events[0].state == "pending"


def test_retry_runs_oldest_event_first(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    for body in ("one", "two", "three"):
        reply(message=body)
    first.error = None

    run(operator, "run_again", *keys()[::-1])

    assert [call["message"].body for call in first.arguments[3:]] == ["one", "two", "three"]


def test_too_many_selected_events_are_refused(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    event = reply()
    add_copies(event, 1_000)

    response = choose(operator, "run_again", event.pk, select_across=1)

    assert levels(response) == ["error"]
    assert len(first) == 1


@pytest.mark.parametrize("action", [each for each in ACTIONS if each.name != "skip_handler"])
def test_refusal_names_the_command_that_does_the_same(operator: Client, action: Any) -> None:
    add_copies(make_invalid("{}"), 1_000)
    selected = WebhookEvent.objects.latest("pk").pk

    [refusal] = choose(operator, action.name, selected, select_across=1).context["messages"]

    assert ("manage.py" in refusal.message) == bool(action.command)
    assert action.command in refusal.message


# A handler that is not connected


def test_unconnected_handler_cannot_be_retried(operator: Client, gone: Calls) -> None:
    event = reply()
    disconnect()
    before = WebhookEvent.objects.get().attempts

    question = choose(operator, "run_again", event.pk)
    html = question.content.decode()
    assert counts(question) == {"unaffected": 1}
    assert not every(html, "button[@class='cellcast-button cellcast-button-primary']")
    skip_url = url_of("webhookevent", "of_handler", "skip_handler", handler="gone")
    assert skip_url in addresses(html)

    url = url_of("webhookevent", "act", event.pk, "run_again")
    response = post(operator, url, event)  # a form that was opened before it was removed
    assert levels(response) == ["info"]
    assert len(gone) == 1
    assert WebhookEvent.objects.get().attempts == before
    assert log() == []


def test_event_is_not_done_if_a_handler_could_not_run(
    operator: Client, first: Calls, gone: Calls
) -> None:
    first.error = ValueError()
    event = reply()
    disconnect()
    first.error = None

    response = run(operator, "run_again", event.pk)

    assert len(first) == 2
    assert levels(response) == ["warning", "warning"]
    assert "gone" in str([*response.context["messages"]][-1])
    assert log() == [(str(event.pk), f"{RunAgain.log}.")]


def test_confirmation_names_missing_and_new_handlers(
    operator: Client, gone: Calls, connect: Connect
) -> None:
    event = reply()
    disconnect()
    connect(message_received, Calls("newcomer"))

    question = operator.get(offered(operator, event)["run_again"])

    missing = every(question.content.decode(), "p[@data-missing]")
    assert [each.get("data-missing") for each in missing] == ["gone"]
    assert planned(question, "first") == {"newcomer": 1}
    assert planned(question, "again") == {}


# Run all handlers again


def test_rerun_calls_finished_handlers_too(operator: Client, listen: Listen) -> None:
    calls = listen(message_received)
    event = reply(message="YES")

    assert levels(run(operator, "run_all_again", event.pk)) == ["success"]
    assert [call["message"].body for call in calls] == ["YES", "YES"]


@pytest.mark.parametrize("place", ["list", "event"])
def test_double_click_runs_handlers_once(operator: Client, listen: Listen, place: str) -> None:
    calls = listen(message_received)
    event = reply()
    url = url_of("webhookevent", "act", event.pk, "run_all_again") if place == "event" else ""
    question = operator.get(url) if url else choose(operator, "run_all_again", event.pk)

    confirm(operator, question, url)
    response = confirm(operator, question, url)

    assert len(calls) == 2  # when it came, and once more
    assert levels(response) == ["info"]
    assert len(log()) == 1


def test_confirmation_that_ran_nothing_can_be_sent_again(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    event = reply()
    first.error = None
    question = choose(operator, "run_again", event.pk)

    with refusing("^UPDATE .*webhookevent"), pytest.raises(OperationalError):
        confirm(operator, question)
    assert len(first) == 1

    assert levels(confirm(operator, question)) == ["success"]
    assert len(first) == 2
    assert levels(confirm(operator, question)) == ["info"]
    assert len(first) == 2


def test_confirmation_that_ran_something_is_not_sent_again(
    operator: Client, first: Calls, second: Calls
) -> None:
    event = reply()
    question = choose(operator, "run_all_again", event.pk)
    refusals = ExitStack()
    first.during = lambda **arguments: refusals.enter_context(refusing("^UPDATE .*webhookevent"))

    with pytest.raises(OperationalError):
        confirm(operator, question)
    refusals.close()

    assert levels(confirm(operator, question)) == ["info"]
    assert (len(first), len(second)) == (2, 1)


def test_rerun_without_handlers_runs_nothing(operator: Client) -> None:
    event = reply()

    assert levels(run(operator, "run_all_again", event.pk)) == ["info"]
    assert log() == []


# Read again


def test_read_again_stores_and_runs_what_is_understood_now(
    operator: Client, listen: Listen
) -> None:
    calls = listen(message_received)
    event = make_invalid(UNDERSTOOD_NOW)

    assert levels(run(operator, "reprocess", event.pk)) == ["success", "success"]
    assert [call["message"].body for call in calls] == ["YES"]
    event.refresh_from_db()
    assert (event.outcome, event.kind) == ("stored", "reply")
    assert event.done_at is not None


def test_read_again_reads_only_selected_event(operator: Client) -> None:
    _, chosen, _ = (make_invalid(UNDERSTOOD_NOW) for _ in range(3))
    run(operator, "reprocess", chosen.pk)
    assert WebhookEvent.objects.exclude(outcome="invalid").get() == chosen


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
    assert levels(response) == ["warning"]
    assert event.error in str(*response.context["messages"])


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
    settings.CELLCAST_RUN_HANDLERS = "task"
    dummy = f"{tasks_package().__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {"default": {"BACKEND": dummy}}
    calls = listen(message_received)

    response = run(operator, "reprocess", make_invalid(UNDERSTOOD_NOW).pk)

    assert levels(response) == ["success", "warning"]
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


def test_dismissal_can_be_undone(operator: Client) -> None:
    event = make_invalid()
    assert list(offered(operator, event)) == ["reprocess", "dismiss"]
    press(operator, offered(operator, event)["dismiss"])

    assert list(offered(operator, event)) == ["reprocess", "undo_dismissal"]
    assert levels(press(operator, offered(operator, event)["undo_dismissal"])) == ["success"]

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
        WebhookEvent.objects.update(outcome="stored", done_at=timezone.now())

    with just_before("^UPDATE .*webhookevent", read_elsewhere):
        response = run(operator, action, event.pk)

    assert levels(response) == ["info"]
    assert WebhookEvent.objects.get().dismissed_at == dismissed_at
    assert log() == []


# Skip a handler


def skip_url(event: WebhookEvent, handler: str) -> str:
    return url_of("webhookevent", "act", event.pk, "skip_handler", handler=handler)


def handlers_shown(client: Client, event: WebhookEvent) -> dict[str, Any]:
    rows = every(page_of(client, "webhookevent", "change", event.pk), "li[@data-handler]")
    return {row.get("data-handler", ""): row for row in rows}


def test_user_skips_a_handler_from_its_row(operator: Client, first: Calls, gone: Calls) -> None:
    event = reply()
    url = skip_url(event, "gone")
    assert addresses(handlers_shown(operator, event)["gone"]) == [url]
    assert addresses(handlers_shown(operator, event)["first"]) == []

    assert not WebhookEvent.objects.done().exists()
    response = press(operator, url)

    assert levels(response) == ["success"]
    event.refresh_from_db()
    assert event.state == WebhookEvent.State.DONE
    assert event.handler_results["gone"]["by"] == "staff-0"
    assert "staff-0" in words(handlers_shown(operator, event)["gone"])
    assert log() == [(str(event.pk), f"{SkipHandler('gone').log}.")]
    assert levels(operator.get(url, follow=True)) == ["info"]  # nothing is left to skip


def test_skipping_for_many_events_leaves_other_handlers_unfinished(
    operator: Client, first: Calls, gone: Calls
) -> None:
    first.error = ValueError("also no luck")
    for number in range(3):
        reply(message=str(number))
    first.error = None
    alone = reply(message="only gone fails")
    disconnect()

    question = choose(operator, "skip_handler", *keys())
    html = question.content.decode()
    choices = [each.get("value") for each in every(html, "input[@type='radio']")]
    assert choices == ["first", "gone"]
    response = confirm(operator, question, handler="gone")

    assert levels(response) == ["success"]
    events = WebhookEvent.objects.order_by("pk")
    assert [list(event.handler_errors()) for event in events] == [*[["first"]] * 3, []]
    assert list(WebhookEvent.objects.done()) == [alone]
    assert log() == [(None, f"{SkipHandler('gone').log}: 4 events.")]


def test_user_skips_all_failures_of_a_handler_from_one_page(
    operator: Client, first: Calls, gone: Calls
) -> None:
    first.error = ValueError()
    gone.error = None
    other = reply(message="not of this handler")
    first.error, gone.error = None, ValueError()
    for number in range(3):
        reply(message=str(number))
    disconnect()
    url = url_of("webhookevent", "of_handler", "skip_handler", handler="gone")

    question = operator.get(url)
    assert counts(question) == {"affected": 3}
    response = confirm(operator, question, url)

    assert response.redirect_chain[0][0] == url_of("webhookevent", handler="gone", test="no")
    assert levels(response) == ["success"]
    assert WebhookEvent.objects.done().count() == 3
    assert not WebhookEvent.objects.done().filter(pk=other.pk).exists()
    assert levels(operator.get(url, follow=True)) == []


@pytest.mark.parametrize("action", ["run_again", "skip_handler"])
def test_handler_page_excludes_test_events_like_the_count(
    operator: Client, gone: Calls, action: str
) -> None:
    reply(message="of a customer")
    WebhookEvent.objects.filter(pk=reply(message="of a Test Send").pk).update(is_test=True)

    question = operator.get(url_of("webhookevent", "of_handler", action, handler="gone"))

    assert len(list(held_up(real_events()))) == 1
    assert counts(question) == {"affected": 1}


def test_handler_page_takes_only_the_oldest_events_and_warns(
    operator: Client, gone: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "MAX_SELECTED", 3)
    event = reply()
    newest = add_copies(event, 3)[-1]
    disconnect()
    url = url_of("webhookevent", "of_handler", "skip_handler", handler="gone")

    question = operator.get(url)

    assert counts(question) == {"affected": 3}
    assert every(question.content.decode(), "p[@id='cellcast-has-more']")
    assert levels(confirm(operator, question, url)) == ["success"]
    assert WebhookEvent.objects.pending().get().pk == newest


def test_skipping_without_choosing_a_handler_skips_nothing(operator: Client, gone: Calls) -> None:
    event = reply()

    response = run(operator, "skip_handler", event.pk)

    assert levels(response) == ["info"]
    assert "skipped" not in WebhookEvent.objects.get().handler_results["gone"]


def test_handler_that_never_ran_can_be_skipped(
    operator: Client, gone: Calls, connect: Connect
) -> None:
    event = reply()
    connect(message_received, Calls("newcomer"))

    [url] = addresses(handlers_shown(operator, event)["newcomer"])
    [choice] = every(operator.get(url).text, "input[@type='radio']")
    assert choice.get("value") == "newcomer"
    press(operator, url)

    event.refresh_from_db()
    assert event.handler_results["newcomer"]["skipped"] is True
    assert event.state == WebhookEvent.State.PENDING


@pytest.mark.parametrize("handler", ["first", "nobody", ""])
def test_handler_with_nothing_to_skip_is_not_skipped(
    operator: Client, first: Calls, gone: Calls, handler: str
) -> None:
    event = reply()

    response = post(operator, skip_url(event, handler), event)

    assert levels(response) == ["info"]
    assert log() == []


def test_name_that_is_no_handlers_is_not_skipped_where_none_is_known(operator: Client) -> None:
    event = WebhookEventFactory.create(pending=True)
    url = skip_url(event, "x. Ended the opt-out of +61400111222")

    assert "+61400111222" not in operator.get(url, follow=True).text
    assert levels(post(operator, url, event)) == ["info"]

    assert log() == []
    assert WebhookEvent.objects.get().handler_results == event.handler_results


def test_handler_that_finished_meanwhile_is_not_skipped(operator: Client, gone: Calls) -> None:
    event = reply()

    def run_elsewhere() -> None:
        WebhookEvent.objects.update(attempts=2)

    with just_before("^UPDATE .*webhookevent", run_elsewhere):
        response = post(operator, skip_url(event, "gone"), event)

    assert levels(response) == ["info"]
    assert log() == []


def test_event_deleted_meanwhile_does_not_break_skipping(
    operator: Client, gone: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = reply()
    monkeypatch.setattr(
        "cellcast_django.handlers.skip",
        lambda pk, name, **kwargs: WebhookEvent.objects.filter(pk=pk).delete(),
    )

    url = url_of("webhookevent", "of_handler", "skip_handler")

    assert levels(post(operator, url, event, handler="gone")) == ["info"]


# The permissions of the actions


@pytest.mark.parametrize("action", ACTIONS)
def test_action_requires_its_permission(action: Any, gone: Calls) -> None:
    WebhookEventFactory.create(invalid=True)
    reply()
    before = list(WebhookEvent.objects.values())
    permissions = {each.permission for each in ACTIONS} - {action.permission}
    person = staff("view_webhookevent", *(f"{each}_webhookevent" for each in permissions))

    page = page_of(person, "webhookevent")
    options = {each.get("value") for each in every(page, "option")}
    shown = {each.name for each in ACTIONS if each.permission in permissions}
    assert options & {each.name for each in ACTIONS} == shown
    run(person, action.name, *keys(), handler="gone")
    for event in WebhookEvent.objects.all():
        url = url_of("webhookevent", "act", event.pk, action.name, handler="gone")
        assert person.get(url).status_code == 403
        assert person.post(url).status_code == 403
    assert list(WebhookEvent.objects.values()) == before
    assert log() == []


def test_reader_is_offered_no_action(reader: Client, gone: Calls) -> None:
    event = reply()
    make_invalid()

    assert 'name="action"' not in page_of(reader, "webhookevent")
    assert offered(reader, event) == {}
    assert addresses(handlers_shown(reader, event)["gone"]) == []
    for name in ("run_again", "skip_handler"):
        url = url_of("webhookevent", "of_handler", name, handler="gone")
        assert reader.get(url).status_code == 403


def test_empty_list_offers_no_action(operator: Client) -> None:
    assert 'name="action"' not in page_of(operator, "webhookevent")


def test_action_on_events_hidden_from_the_user_is_refused() -> None:
    event = reply()
    url = url_of("webhookevent", "act", event.pk, "run_all_again")

    assert staff("rerun_webhookevent").post(url).status_code == 403


def test_action_ignores_events_hidden_by_the_site(
    operator: Client, gone: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, hidden = reply(message="one"), reply(message="two")
    model_admin, rows = site.get_model_admin(WebhookEvent), WebhookEvent.objects.exclude
    monkeypatch.setattr(model_admin, "get_queryset", lambda request: rows(pk=hidden.pk))
    chosen = {"action": "run_again", "_selected_action": shown.pk}

    for url in (
        url_of("webhookevent", "act", shown.pk, "run_again"),
        url_of("webhookevent", "of_handler", "run_again", handler="gone"),
        url_of("webhookevent"),
    ):
        post(operator, url, hidden, **chosen)

    assert len(gone) == 2  # when they arrived
    assert log() == []


# The page that asks


def test_nothing_happens_before_confirmation(operator: Client, gone: Calls) -> None:
    reply()
    make_invalid(UNDERSTOOD_NOW)
    before = list(WebhookEvent.objects.values())

    for action in ACTIONS:
        choose(operator, action.name, *keys())

    assert len(gone) == 1
    assert list(WebhookEvent.objects.values()) == before
    assert log() == []


def test_confirmation_counts_events_and_calls(operator: Client, connect: Connect) -> None:
    connect(message_received, Calls("finished"))
    reply(message="done")
    connect(message_received, Calls("unlucky", error=ValueError()))
    for message in ("one", "two", "two"):  # the last one is a duplicate
        reply(message=message)

    unfinished = choose(operator, "run_again", *keys())
    everyone = choose(operator, "run_all_again", *keys())

    assert counts(unfinished) == {"affected": 2, "unaffected": 2}
    assert planned(unfinished, "again") == {"unlucky": 2}
    assert counts(everyone) == {"affected": 3, "unaffected": 1}
    assert planned(everyone, "again") == {"finished": 3, "unlucky": 2}
    assert planned(everyone, "first") == {"unlucky": 1}
    warning = "p[@class='cellcast-warning']"
    assert len(every(everyone.content.decode(), warning)) == 1
    assert not every(unfinished.content.decode(), warning)


def test_handler_name_is_escaped(operator: Client, connect: Connect) -> None:
    connect(message_received, Calls("<b>odd</b>", error=ValueError()))
    page = choose(operator, "run_again", reply().pk).content.decode()

    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_confirmed_events_run_whatever_the_list_shows_by_then(
    operator: Client, first: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 9
    first.error = ValueError()
    event = reply()
    first.error = None
    question = choose(operator, "run_again", event.pk)

    response = confirm(operator, question, url_of("webhookevent", outcome="failed"))

    assert levels(response) == ["success"]


def test_events_across_pages_can_be_selected(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    events = [reply(message=str(number)) for number in range(confirmation.CHUNK_SIZE + 1)]
    first.error = None

    question = choose(operator, "run_again", events[0].pk, select_across=1)

    assert counts(question) == {"affected": 101}
    assert question.content.decode().count("<input") < 20  # a form may have 1,000 fields
    assert levels(confirm(operator, question)) == ["success"]
    assert len(first) == 202
    assert log() == [(None, f"{RunAgain.log}: 101 events.")]


def test_unknown_keys_are_ignored(operator: Client) -> None:
    for key in (f"x,-1,²,{'9' * 30},,77", ""):
        form = {"action": "run_again", "_selected_action": 1, "confirmed": "yes", "keys": key}
        assert levels(operator.post(url_of("webhookevent"), form, follow=True)) == []


def test_no_event_starts_after_the_time_limit(operator: Client, first: Calls, clock: Clock) -> None:
    first.error = ValueError()
    for body in ("one", "two", "three"):
        reply(message=body)
    question = choose(operator, "run_again", *keys())
    first.error, first.during = None, lambda **arguments: clock.sleep(21)

    response = confirm(operator, question)

    assert levels(response) == ["success", "warning"]
    assert WebhookEvent.objects.pending().count() == 2
    assert log() == [(None, f"{RunAgain.log}: 1 event.")]


# On the page of one event


def offered(client: Client, event: WebhookEvent) -> dict[str, str]:
    """Return what the page of an event offers: the address of each page that asks, by its name."""
    links = every(page_of(client, "webhookevent", "change", event.pk), "a[@data-action]")
    return {link.get("data-action", ""): link.get("href", "") for link in links}


def press(client: Client, address: str) -> Any:
    """Press the button of the page at this address, once it has been asked."""
    return confirm(client, client.get(address), address)


def test_event_page_offers_only_applicable_actions(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    event = reply()
    first.error = None
    here = url_of("webhookevent", "change", event.pk)

    links = offered(operator, event)
    assert list(links) == ["run_again", "run_all_again"]
    assert here in addresses(operator.get(links["run_again"]).content.decode())
    response = press(operator, links["run_again"])
    assert response.redirect_chain == [(here, 302)]
    assert levels(response) == ["success"]
    assert list(offered(operator, event)) == ["run_all_again"]
    response = operator.get(links["run_again"], follow=True)
    assert response.redirect_chain == [(here, 302)]
    assert levels(response) == ["info"]


def test_event_page_offers_no_retry_without_connected_handlers(
    operator: Client, gone: Calls
) -> None:
    event = reply()
    disconnect()

    assert offered(operator, event) == {}
    row = handlers_shown(operator, event)["gone"]
    assert every(row, "p[@data-missing]")
    assert addresses(row) == [skip_url(event, "gone")]


def test_invalid_events_page_offers_read_again(operator: Client) -> None:
    event = make_invalid(UNDERSTOOD_NOW)

    assert levels(press(operator, offered(operator, event)["reprocess"])) == ["success"] * 2


@pytest.mark.parametrize("pk", [77, int("9" * 30)])
def test_unknown_event_or_action_is_not_found(operator: Client, pk: int) -> None:
    event = reply()

    for page, *arguments in (
        ("act", pk, "run_again"),
        ("act", event.pk, "delete"),
        ("of_handler", "delete"),
        ("of_handler", "dismiss"),
    ):
        assert operator.get(url_of("webhookevent", page, *arguments)).status_code == 404


# Who did it


def test_admin_log_records_user_action_and_event(operator: Client, first: Calls) -> None:
    first.error = ValueError()
    event = reply()
    invalid = make_invalid()

    run(operator, "run_again", event.pk)
    run(operator, "run_all_again", event.pk)
    run(operator, "reprocess", invalid.pk)

    assert log() == [
        (str(event.pk), f"{RunAgain.log}."),
        (str(event.pk), f"{RunAllAgain.log}."),
        (str(invalid.pk), f"{Reprocess.log}."),
    ]
    assert len({message for _pk, message in log()}) == 3
    entries = LogEntry.objects.all()
    assert {entry.user.username for entry in entries} == {"staff-0"}
    assert CUSTOMER not in "".join(map(str, entries))


# State and reason

OUTCOME = {"shop.handlers.confirm": {"at": "2024-08-09T06:37:47+00:00", "error": ""}}
SKIPPED = {"shop.handlers.confirm": OUTCOME["shop.handlers.confirm"] | {"skipped": True}}
FIVE_HOURS_AGO = timezone.now() - timedelta(hours=5)
IN_FIVE_HOURS = timezone.now() + timedelta(hours=5)


RETRYING = {"pending": True, "handler_results": OUTCOME}
STATES: list[tuple[dict[str, Any], Tone]] = [
    ({"handler_results": OUTCOME}, Tone.GOOD),
    ({"handler_results": SKIPPED}, Tone.GOOD),
    ({"handler_results": {}}, Tone.GOOD),
    ({"duplicate": True}, Tone.QUIET),
    ({"invalid": True}, Tone.BAD),
    ({"invalid": True, "dismissed_at": FIVE_HOURS_AGO, "error": "odd"}, Tone.QUIET),
    ({"failed": True}, Tone.BAD),
    (RETRYING | {"next_run_at": FIVE_HOURS_AGO}, Tone.OPEN),
    (RETRYING | {"next_run_at": IN_FIVE_HOURS}, Tone.OPEN),
]


@pytest.mark.parametrize(("values", "tone"), STATES)
def test_event_page_starts_with_state_and_reason(
    reader: Client, values: dict[str, Any], tone: Tone
) -> None:
    event = WebhookEventFactory.create(**values)

    page = page_of(reader, "webhookevent", "change", event.pk)

    state = every(page, "section[@class='module cellcast-summary']/p")[0]
    assert tones(state) == [tone.name.lower()]
    assert words(state).endswith(sentence_of(event))
    assert page.index("cellcast-summary") < page.index("cellcast-body-heading")


def test_each_state_has_its_own_sentence() -> None:
    events = [WebhookEventFactory.create(**values) for values, _tone in STATES]
    assert len({sentence_of(event) for event in events} - {""}) == len(events)


def test_sentence_about_a_pending_event_has_its_pause_and_attempts() -> None:
    event = WebhookEventFactory.create(**RETRYING, next_run_at=FIVE_HOURS_AGO)
    assert " 5 h" in sentence_of(event)
    event = WebhookEventFactory.create(pending=True, handler_results={}, attempts=1)
    assert "1 of 12" in sentence_of(event)


def test_waiting_events_page_names_the_event_it_waits_for(reader: Client) -> None:
    event = WebhookEventFactory.create(pending=True, waiting_for=4711)

    response = reader.get(url_of("webhookevent", "change", event.pk))

    assert "4711" in response.context["page"].sentence


def test_event_without_any_call_is_shown_as_waiting(reader: Client) -> None:
    WebhookEventFactory.create(pending=True, handler_results={})

    assert "… waiting" in text_of(page_of(reader, "webhookevent"))


# All events of a handler


def test_user_retries_all_events_of_a_failing_handler(
    operator: Client, client: WebhookClient, first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    second.error = ValueError("no luck")
    reply(message="one")
    reply(message="two")
    second.error, first.error = None, ValueError("no luck")
    reply(message="of another handler")
    url = url_of("webhookevent", "of_handler", "run_again", handler="second")

    question = operator.get(url)
    assert planned(question, "again") == {"second": 2}
    response = confirm(operator, question, url)

    assert levels(response) == ["success"]
    assert response.redirect_chain[0][0] == url_of("webhookevent", handler="second", test="no")
    assert (len(first), len(second)) == (3, 5)
    assert Message.objects.count() == 3


def test_event_taken_over_after_releasing_another_is_logged_by_count(
    operator: Client, connect: Connect
) -> None:
    booking, slow = Calls("booking"), Calls("slow")
    connect(message_received, in_order(booking))
    connect(message_received, slow)
    booking.error = slow.error = ValueError("no")
    event = reply(sender=CUSTOMER, message="one")
    waiting = reply(sender=CUSTOMER, message="two")
    booking.error = slow.error = None

    def outlive_the_lease(**kwargs: Any) -> None:
        WebhookEvent.objects.filter(pk=event.pk).update(attempts=99)

    slow.during = outlive_the_lease
    levels(run(operator, "run_again", event.pk))
    waiting.refresh_from_db()
    assert waiting.has_finished("booking")
    assert LogEntry.objects.get().object_id is None
