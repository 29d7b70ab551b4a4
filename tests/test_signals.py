"""Signals: handlers' names, which of them are called, and every kind of handler."""

import asyncio
import gc
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest

from cellcast_django.connected import handlers_by_name
from cellcast_django.handlers.work import Fact
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient
from tests.handlers import SIGNALS, Listen

pytestmark = pytest.mark.django_db

HERE = "tests.test_signals"
heard: list[str] = []


@pytest.fixture(autouse=True)
def nothing_heard() -> None:
    heard.clear()


@pytest.fixture
def signal() -> FactSignal:
    return FactSignal("a_signal")


def function(**kwargs: Any) -> None:
    heard.append("function")


async def async_function(**kwargs: Any) -> None:
    await asyncio.sleep(0)
    heard.append("async_function")


def function_with_arguments(word: str, **kwargs: Any) -> None:
    heard.append(word)


@wraps(function)
def decorated(**kwargs: Any) -> None:
    heard.append("decorated")


class Object:
    def __call__(self, **kwargs: Any) -> None:
        heard.append("object")

    def method(self, **kwargs: Any) -> None:
        heard.append("method")

    async def async_method(self, **kwargs: Any) -> None:
        heard.append("async_method")

    @classmethod
    def class_method(cls, **kwargs: Any) -> None:
        heard.append("class_method")


class AsyncObject:
    async def __call__(self, **kwargs: Any) -> None:
        heard.append("async_object")


a_lambda: Callable[..., None] = lambda **kwargs: heard.append("lambda")  # noqa: E731
an_object = Object()

HANDLERS = [
    (function, "function", "function"),
    (async_function, "async_function", "async_function"),
    (a_lambda, "<lambda>", "lambda"),
    (decorated, "function", "decorated"),
    (an_object, "Object", "object"),
    (an_object.method, "Object.method", "method"),
    (an_object.async_method, "Object.async_method", "async_method"),
    (Object.class_method, "Object.class_method", "class_method"),
    (partial(function_with_arguments, "partial"), "function_with_arguments", "partial"),
    (partial(partial(function)), "function", "function"),
    (partial(an_object.method), "Object.method", "method"),
    (AsyncObject(), "AsyncObject", "async_object"),
    (partial(AsyncObject()), "AsyncObject", "async_object"),
]


def names(signal: FactSignal, sender: type = Message) -> list[str]:
    return list(handlers_by_name(signal, sender))


# The name


@pytest.mark.parametrize(("handler", "name", "says"), HANDLERS)
def test_every_kind_of_handler_has_a_name_and_is_called_to_its_end(
    handler: Callable[..., Any], name: str, says: str, signal: FactSignal
) -> None:
    signal.connect(handler, weak=False)
    assert names(signal) == [f"{HERE}.{name}"]
    [work] = Fact(signal, Message, {}).work().values()
    work.do()
    assert heard == [says]


@pytest.mark.parametrize("sender", [None, Message])
@pytest.mark.parametrize("uid", ["confirm an appointment", ("a", "tuple"), 5, object()])
def test_only_a_string_as_dispatch_uid_is_the_name(
    uid: object, sender: type | None, signal: FactSignal
) -> None:
    signal.connect(function, sender=sender, dispatch_uid=uid)
    assert names(signal) == [uid if isinstance(uid, str) else f"{HERE}.function"]


def test_second_handler_with_the_same_name_gets_a_number(signal: FactSignal) -> None:
    handlers = [partial(function_with_arguments, word) for word in ["one", "two", "three"]]
    for handler in handlers:
        signal.connect(handler)
    name = f"{HERE}.function_with_arguments"
    assert names(signal) == [name, f"{name}#2", f"{name}#3"]
    for work in Fact(signal, Message, {}).work().values():
        work.do()
    assert heard == ["one", "two", "three"]


def test_same_uid_for_all_senders_and_for_one_is_two_handlers(signal: FactSignal) -> None:
    signal.connect(function, dispatch_uid="uid")
    signal.connect(decorated, sender=Message, dispatch_uid="uid")
    assert names(signal) == ["uid", "uid#2"]
    assert names(signal, WebhookEvent) == ["uid"]


# Who is connected


def test_garbage_collected_handler_is_skipped(signal: FactSignal) -> None:
    short_lived = Object()
    signal.connect(short_lived)
    signal.connect(short_lived.method)
    signal.connect(function)
    assert len(names(signal)) == 3
    del short_lived
    gc.collect()
    assert names(signal) == [f"{HERE}.function"]


# What the three signals carry


@pytest.fixture
def on_any(listen: Listen) -> dict[FactSignal, list[dict[str, Any]]]:
    return {each: listen(each) for each in SIGNALS}


@pytest.mark.parametrize("statuses", [["received", "delivered"], ["delivered", "expired"]])
def test_status_changed_is_sent_with_message_status_change_and_event(
    client: WebhookClient, on_any: dict[FactSignal, list[dict[str, Any]]], statuses: list[str]
) -> None:
    for status in statuses:
        client.status(status=status)

    message = Message.objects.get()
    changes = list(message.status_history.all())
    assert [change.status for change in changes] == statuses
    told = {"signal": status_changed, "sender": Message, "message": message}
    calls = [told | {"status_change": change, "event": change.event} for change in changes]
    assert on_any == {message_received: [], status_changed: calls, opt_out_received: []}
    assert on_any[status_changed][1]["message"].status == "delivered"
