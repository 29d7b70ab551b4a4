"""A host project that reads from a replica: what must be fresh is never read from it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from cellcast_django import opt_outs
from cellcast_django.handlers import skip
from cellcast_django.health import failing_handlers, measure_health
from cellcast_django.models import HandlerCall, Message, WebhookEvent
from cellcast_django.signals import GiveUp, RetryLater, handlers_failed, status_changed
from cellcast_django.testing import WebhookClient
from tests.handlers import SIGNALS, Calls, Listen, connected

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


def test_who_skips_the_last_call_tells_of_the_one_that_failed(
    client: WebhookClient, listen: Listen
) -> None:
    told = listen(handlers_failed)
    fails, waits = Calls(error=GiveUp("no")), Calls(error=RetryLater(timedelta()))
    with connected(status_changed, fails=fails, waits=waits):
        client.status()
        skip(HandlerCall.objects.using("default").filter(handler="waits"))
    assert [each["errors"] for each in told] == [{"fails": "GiveUp: no"}]
    assert stored().get().state == "failed"


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
    client.status(status="sent")
    call_command("cellcast_prune", event=[stored().latest("pk").pk])
    assert stored_messages().get().status == "delivered"
    call_command("cellcast_status", max_silent=timedelta(hours=6))
    call_command("cellcast_prune", older_than=timedelta(0))
    assert not stored().exists()
