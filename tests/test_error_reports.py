"""What Django's error mails, its debug page and an error tracker show: no password, no customer."""

import hmac
import importlib
import json
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from functools import partial
from types import TracebackType
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import django
import pytest
from django.apps import apps
from django.core.mail import EmailMultiAlternatives
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

import cellcast_django
from cellcast_django import inbox, payloads, receiving, views
from cellcast_django.diagnostics import test_send
from cellcast_django.error_reports import hides_variables
from cellcast_django.factories import HandlerCallFactory
from cellcast_django.payloads import Endpoint
from cellcast_django.testing import authorization, opt_out_payload, reply_payload, status_payload
from tests.admin_pages import make_invalid
from tests.database_faults import refusing

PASSWORD = "S3cretPassw0rdXYZ"  # noqa: S105
OPERATOR = "operator@example.com"
CUSTOMER = "+61491570156"
TEXT = "I am HIV positive, call me"
RECEIVE = "/sms/webhook-receiver"


@pytest.fixture
def site(settings: Any) -> Any:
    """A site as deployed: some hosts are allowed, and somebody reads its error mails."""
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ADMINS = [OPERATOR] if django.VERSION >= (6, 0) else [("Operator", OPERATOR)]
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    settings.CELLCAST_WEBHOOK_SECRETS = [f"new:{PASSWORD}", f"old:{PASSWORD}"]
    return settings


def assert_hides_everything(report: str) -> None:
    encoded = authorization()["Authorization"].partition(" ")[2]
    for secret in (PASSWORD, encoded, CUSTOMER, CUSTOMER[1:], urlencode({"": CUSTOMER})[1:], TEXT):
        assert secret not in report


# The variables on the path of a webhook

WEBHOOKS: dict[str, tuple[Any, str]] = {
    "reply": (reply_payload(sender=CUSTOMER, message=TEXT), "application/json"),
    "form": (reply_payload(sender=CUSTOMER, message=TEXT), "application/x-www-form-urlencoded"),
    "report": (status_payload(receiver=CUSTOMER, reason=TEXT), "application/json"),
    "opt-out": (opt_out_payload(contact=CUSTOMER), "application/json"),
    "array": ([reply_payload(sender=CUSTOMER, message=TEXT)] * 2, "application/json"),
    "invalid": ({"sender": CUSTOMER, "message": TEXT}, "application/json"),
}

Place = Callable[[BaseException], AbstractContextManager[Any]]


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


def in_authentication(error: BaseException) -> AbstractContextManager[Any]:
    return patch.object(hmac, "compare_digest", failing(error))


def in_parsing(error: BaseException) -> AbstractContextManager[Any]:
    return patch.object(payloads, "read_element", failing(error))


def in_storing(error: BaseException) -> AbstractContextManager[Any]:
    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if params:
            raise error
        return execute(sql, params, many, context)

    return connection.execute_wrapper(fail)


def in_running_handlers(error: BaseException) -> AbstractContextManager[Any]:
    return patch.object(receiving, "_run_or_enqueue", failing(error))


def in_responding(error: BaseException) -> AbstractContextManager[Any]:
    return patch.object(views, "respond", failing(error))


UNFORESEEN = [in_authentication, in_responding]
PLACES = [*UNFORESEEN, in_parsing, in_storing, in_running_handlers]
"""Where an error is raised; one in parsing makes an invalid event, one in storing a 503."""


def post(client: Client, name: str) -> Any:
    payload, content_type = WEBHOOKS[name]
    body = json.dumps(payload) if content_type == "application/json" else urlencode(payload)
    return client.post(RECEIVE, body, content_type, headers=authorization())


def frames_of(error: BaseException) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the file and variables of each frame, also of the causes of the exception."""
    chain: list[BaseException | None] = [error]
    while chain:
        each = chain.pop()
        if each is None:
            continue
        chain += [each.__cause__, each.__context__]
        traceback: TracebackType | None = each.__traceback__
        while traceback is not None:
            yield traceback.tb_frame.f_code.co_filename, traceback.tb_frame.f_locals
            traceback = traceback.tb_next


def serialised(value: object) -> str:
    """Return a variable as error trackers do: by its ``repr``, containers and strings as such."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return " ".join(f"{serialised(key)}={serialised(each)}" for key, each in value.items())
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes):
        return " ".join(map(serialised, value))
    return repr(value)


def reported(error: BaseException) -> str:
    """Return what an error tracker gets, except the frames of the test and its client."""
    return "\n".join(
        serialised(variables)
        for file, variables in frames_of(error)
        if "/tests/" not in file and "/django/test/" not in file
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        *((place, RuntimeError) for place in UNFORESEEN),
        *((place, SystemExit) for place in PLACES),
    ],
)
@pytest.mark.parametrize("name", WEBHOOKS)
def test_error_tracker_gets_no_password_number_or_text(
    site: Any, monkeypatch: pytest.MonkeyPatch, name: str, place: Place, kind: type[BaseException]
) -> None:
    with place(kind("a mistake")), pytest.raises(kind, match="a mistake") as caught:
        post(Client(), name)
    places = [file for file, _ in frames_of(caught.value)]
    assert [file for file in places if "cellcast_django/views.py" in file]
    assert_hides_everything(reported(caught.value))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("place", "code"), [*((place, 500) for place in UNFORESEEN), (in_storing, 503)]
)
@pytest.mark.parametrize("name", WEBHOOKS)
def test_error_mail_hides_password_number_and_text(
    site: Any, mailoutbox: list[EmailMultiAlternatives], name: str, place: Place, code: int
) -> None:
    with place(RuntimeError("a mistake")):
        assert post(Client(raise_request_exception=False), name).status_code == code
    [mail] = mailoutbox
    assert ("a mistake" in str(mail.body)) is (code == 500)
    assert "CELLCAST_WEBHOOK_SECRETS" in str(mail.body)
    assert_hides_everything(str(mail.message()))


@pytest.mark.django_db
@pytest.mark.parametrize("place", UNFORESEEN)
def test_debug_page_hides_password_number_and_text(site: Any, place: Place) -> None:
    site.DEBUG = True
    with place(RuntimeError("a mistake")):
        page = post(Client(raise_request_exception=False), "reply").text
    assert "a mistake" in page and "CELLCAST_WEBHOOK_SECRETS" in page
    assert_hides_everything(page)


@hides_variables
def fail_twice(password: str) -> None:
    """Raise with a cause that has a context of its own."""

    def begin(password: str) -> None:
        raise LookupError

    def go_on(password: str) -> None:
        try:
            begin(password)
        except LookupError:
            raise OSError  # noqa: B904  # the context is what this is about

    try:
        go_on(password)
    except OSError as error:
        raise RuntimeError from error


def test_causes_and_contexts_of_an_exception_lose_their_variables() -> None:
    with pytest.raises(RuntimeError) as raised:
        fail_twice(PASSWORD)
    ours = [names for _file, names in frames_of(raised.value) if "password" in names]
    assert ours == []
    cause = raised.value.__cause__
    assert cause is not None
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "go_on"


@pytest.mark.django_db
def test_failing_inbox_reports_no_number_or_text() -> None:
    reply = json.dumps(reply_payload(sender=CUSTOMER, message=TEXT))
    read = payloads.read(reply.encode(), "application/json", Endpoint.RECEIVE)
    event = make_invalid(reply)
    for act in (
        partial(inbox.store, read, endpoint=Endpoint.RECEIVE),
        partial(inbox.reprocess, event),
    ):
        with in_storing(RuntimeError("a mistake")), pytest.raises(RuntimeError) as caught:
            act()
        assert_hides_everything(reported(caught.value))


PERSONAL = re.compile(
    "number|contact|customer|sender|receiver|body|text|words|raw|media|reference|values|note"
    "|password|secret"
)


DESK = "cellcast_django.desk"


def dataclasses_of_the_package() -> list[type[Any]]:
    for module in pkgutil.walk_packages(cellcast_django.__path__, "cellcast_django."):
        if apps.is_installed(DESK) or not module.name.startswith(DESK):  # which enters the site
            importlib.import_module(module.name)
    return [
        each
        for name, module in sorted(sys.modules.items())
        if name.startswith("cellcast_django")
        for each in vars(module).values()
        if isinstance(each, type) and is_dataclass(each) and each.__module__ == name
    ]


@pytest.mark.parametrize("found", dataclasses_of_the_package(), ids=lambda each: each.__qualname__)
def test_dataclasses_print_nothing_personal(found: type[Any]) -> None:
    """Error trackers report the ``repr`` of every variable."""
    instance = object.__new__(found)
    for field in fields(found):
        holds_text = re.search("str|bytes|Any", str(field.type)) and PERSONAL.search(field.name)
        object.__setattr__(instance, field.name, TEXT if holds_text else None)
    assert TEXT not in repr(instance)


# Test Send


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, OSError])
@pytest.mark.parametrize("method", ["putheader", "endheaders", "getresponse"])
def test_test_send_hides_the_password(
    monkeypatch: pytest.MonkeyPatch, live_server: Any, kind: type[BaseException], method: str
) -> None:
    monkeypatch.setattr(f"http.client.HTTPConnection.{method}", failing(kind("a mistake")))
    error: BaseException | None
    try:
        error = test_send.post_as_cellcast(live_server.url, b"{}", f"new:{PASSWORD}", 5).error
    except BaseException as raised:
        error = raised
    assert error is not None
    assert_hides_everything(reported(error))


class RouterWithAMistake:
    """A host project's own, which breaks what this app reads, and nothing else."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        if model._meta.app_label == "cellcast_django":
            raise RuntimeError("a mistake")
        return "default"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("command", "statement"),
    [
        ("cellcast_run_handlers", "^UPDATE cellcast_django_handlercall"),
        ("cellcast_reprocess", "INSERT INTO"),
        ("cellcast_status", "FROM .cellcast_django_webhookevent"),
        ("cellcast_test_send --delete", "FROM .cellcast_django_webhookevent"),
    ],
)
def test_refused_command_reports_nothing_personal(command: str, statement: str) -> None:
    make_invalid(json.dumps(reply_payload(sender=CUSTOMER, message=TEXT)))
    HandlerCallFactory.create(retrying=True, error=f"{CUSTOMER}: {TEXT}")
    with refusing(statement), pytest.raises(CommandError, match="refused") as caught:
        call_command(*command.split())
    assert_hides_everything(reported(caught.value))
