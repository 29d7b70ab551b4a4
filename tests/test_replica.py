"""A host project that reads from a replica: what must be fresh is never read from it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.management import call_command
from django.utils.connection import ConnectionDoesNotExist

from cellcast_django import opt_outs
from cellcast_django.desk.traffic import Period, count_delivery_times, count_messages
from cellcast_django.factories import MessageFactory
from cellcast_django.health import failing_handlers, measure_health
from cellcast_django.models import Claim, Message, WebhookEvent
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from tests.admin_pages import staff, url_of
from tests.handlers import SIGNALS, Listen
from tests.html import hidden_fields, only

pytestmark = pytest.mark.django_db


class ReadsFromReplica:
    """Sends each read to a replica that cannot be reached."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class ReadsMessagesFromReplica(ReadsFromReplica):
    """As above, but for messages alone: what the admin itself reads is not ours."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica" if model is Message else "default"


@pytest.fixture(autouse=True)
def _replica(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsFromReplica"]


def stored_messages() -> Any:
    return Message.objects.using("default")


def stored() -> Any:
    return WebhookEvent.objects.using("default")


def test_host_projects_queries_read_the_replica() -> None:
    with pytest.raises(ConnectionDoesNotExist):
        WebhookEvent.objects.count()


def test_webhooks_are_stored_and_run_on_the_primary(client: WebhookClient, listen: Listen) -> None:
    calls = [listen(each) for each in SIGNALS]
    Message.objects.record_sent("1", receiver="+61400000000")
    responses = [
        client.status(_id="1", status="received"),
        client.status(_id="1", status="delivered"),
        client.status(_id="1", status="delivered"),
        client.status(_id="2", status="not documented"),
        client.reply(message="Yes please"),
        client.reply(message="stop"),
        client.opt_out(),
    ]
    assert [response.status_code for response in responses] == [200] * 7
    assert [len(each) for each in calls] == [2, 3, 2]
    assert not stored().failed().exists() and not stored().pending().exists()
    assert opt_outs.is_opted_out("0404000000")


def test_handler_gets_the_delivery_time_from_the_primary(
    client: WebhookClient, connect: Callable[..., None]
) -> None:
    times: list[bool] = []

    def note(message: Message, **kwargs: Any) -> None:
        times.append(message.delivery_time is not None)

    connect(status_changed, note)
    client.status(status="received")
    client.status(status="delivered")
    assert times == [False, True]


def send_with(receiver: str, body: str, sender: str) -> str:
    return f"to {receiver}"


def test_answering_sees_what_a_colleague_just_sent(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague's answer of a moment ago is not on the replica yet."""
    settings.DATABASE_ROUTERS = []
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_with"
    question = MessageFactory.create(inbound=True)
    client = staff("view_message", "answer_message")
    url = url_of("message", "conversation", question.pk)
    form = hidden_fields(only(client.get(url).text, "form[@class='cellcast-reply']"))
    take, release = Claim.take, Claim.release

    def take_and_lag(name: str, lasts: timedelta) -> Claim | None:
        settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
        return take(name, lasts)

    def release_and_catch_up(claim: Claim) -> None:
        release(claim)
        settings.DATABASE_ROUTERS = []

    monkeypatch.setattr(Claim, "take", take_and_lag)
    monkeypatch.setattr(Claim, "release", release_and_catch_up)

    client.post(url, form | {"text": "Yes"})

    assert stored_messages().outbound().get().body == "Yes"


@pytest.fixture
def _lagging_action(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is read before the replica falls behind, and the action afterwards."""
    settings.DATABASE_ROUTERS = []
    act = ModelAdmin.response_action

    def lag_and_act(*args: Any, **kwargs: Any) -> Any:
        settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
        return act(*args, **kwargs)

    monkeypatch.setattr(ModelAdmin, "response_action", lag_and_act)


@pytest.mark.usefixtures("_lagging_action")
def test_action_marks_replies_that_wait_on_the_primary() -> None:
    """The replica would list the same ones as waiting again and again."""
    replies = MessageFactory.create_batch(3, inbound=True)
    client = staff("view_message", "handle_message")
    selected = {ACTION_CHECKBOX_NAME: [reply.pk for reply in replies]}
    client.post(url_of("message"), {"action": "mark_done"} | selected)
    assert not stored_messages().filter(handled_at=None).exists()


def test_undo_finds_what_was_just_marked(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
    reply = MessageFactory.create(inbound=True)
    client = staff("view_message", "handle_message")
    client.post(url_of("message", "handle"), {"one": reply.pk})
    at = stored_messages().get().handled_at
    assert at
    client.post(url_of("message", "reopen"), {"replies": reply.pk, "at": at.isoformat()})
    assert stored_messages().get().handled_at is None


def test_counts_and_the_tests_left_out_of_them_are_read_from_the_primary(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
    MessageFactory.create(delivered=True)
    traffic = count_messages(Period.of_last_days(1))
    assert (traffic.delivered, count_delivery_times(traffic).is_sample) == (1, False)


def test_commands_see_what_was_just_stored(
    client: WebhookClient, connect: Callable[..., None], capsys: Any
) -> None:
    fail = [True]

    def handler(**kwargs: Any) -> None:
        if fail:
            raise ValueError

    connect(status_changed, handler)
    client.status()
    client.status(_id="", status="")
    assert failing_handlers()
    assert (measure_health().handlers.pending, measure_health().invalid) == (1, 1)
    fail.clear()
    event = stored().pending().get()
    call_command("cellcast_run_handlers", event=[event.pk])
    call_command("cellcast_run_handlers", failed=True)
    call_command("cellcast_run_handlers")
    call_command("cellcast_reprocess")
    call_command("cellcast_status", max_silent=timedelta(hours=6))
    call_command("cellcast_prune", older_than=timedelta(0))
    assert not stored().exists()
