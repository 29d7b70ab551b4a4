"""System checks: each with a setting that is wrong and one that is right. None opens a database."""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.http import HttpResponse
from django.test.utils import override_script_prefix
from django.urls import include, path, re_path

from cellcast_django import api, checks
from cellcast_django.checks import (
    check_api,
    check_callables,
    check_database_options,
    check_https,
    check_secrets,
    check_secrets_for_deployment,
    check_sending_for_deployment,
    check_settings,
    check_task_backend,
    check_time_zone,
    check_urls,
    check_vendor,
)
from cellcast_django.conf import RULES
from cellcast_django.directory import Directory
from cellcast_django.payloads import Endpoint
from cellcast_django.receiving import tasks_package
from cellcast_django.views import WebhookView
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.recommended import RECOMMENDED

STRONG = "kT4pXw9ZbQ2mVd7R"

Check = Callable[[], Iterator[CheckMessage]]


def ids(check: Check) -> list[str]:
    """The ids of a check's messages, without the app's label; each message says what to do."""
    messages = list(check())
    assert all(message.hint for message in messages)
    return [str(message.id).removeprefix("cellcast_django.") for message in messages]


# Secrets

ENTRIES: dict[str, list[object]] = {
    "E002": [
        None,
        b"cellcast:" + STRONG.encode(),
        STRONG,
        f":{STRONG}",
        "cellcast:",
        f"cellcast :{STRONG}",
        f"cellcast: {STRONG}",
        f"cellcast:{STRONG}\n",
        f"cellcast:{STRONG}\x00{STRONG}",
        *(f"old:{STRONG}{separator}new:{STRONG}" for separator in "\t\n"),
    ],
    "E003": ["username:password", "Username:Password", "user:pass", f"cellcast:<{STRONG}>"],
    "W001": [
        f"cellcast:{STRONG[:15]}",
        "cellcast:abcdeabcdeabcdeabcde",  # few characters
        "Cellcast-of-our-own:cellcast-of-our-own",
    ],
    "W002": [  # glued to another, or pasted with what surrounds it
        *(f"old:{STRONG}{separator}new:{STRONG}" for separator in (",", ", ", ";", " ")),
        f'"cellcast:{STRONG}"',
        f"[cellcast:{STRONG}]",
        f"CELLCAST_WEBHOOK_SECRETS=cellcast:{STRONG}",
        f'CELLCAST_WEBHOOK_SECRETS = ["cellcast:{STRONG}"]',
    ],
    "": [
        f"cellcast-2:with:colons and spaces {STRONG}",
        *(
            f"cellcast:{STRONG}{each}"
            for each in ("with,comma", "with:colon", "ends,", "a, b", "a,:b", "a,b:")
        ),
    ],
}


@pytest.mark.parametrize(
    ("expected", "entry"), [(each, entry) for each, some in ENTRIES.items() for entry in some]
)
@pytest.mark.parametrize("kind", [list, tuple])
def test_each_secret_is_looked_at(
    settings: Any, kind: Callable[..., Any], expected: str, entry: object
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = kind([f"cellcast:{STRONG}", entry, "cellcast:short"])
    *messages, last = check_secrets()
    assert last.id == "cellcast_django.W001"
    assert [message.id for message in messages] == [f"cellcast_django.{expected}"] * bool(expected)
    assert all("Entry 2 " in message.msg for message in messages)


def test_no_message_shows_a_password(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [
        "cellcast:hunter2",
        "hunter2",
        "cellcast: hunter2",
        "a:hunter2,b:hunter2",
    ]
    assert "hunter2" not in "".join(map(str, check_secrets()))
    settings.CELLCAST_WEBHOOK_SECRETS = "cellcast:hunter2"
    settings.CELLCAST_PUBLIC_URL = "https://cellcast:hunter2@sms.example.com"
    settings.CELLCAST_API_KEY = "hunter2\n"
    assert len(list(check_settings())) == 3
    assert "hunter2" not in "".join(map(str, check_settings()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], "E004"), ((), "E004"), (["no colon"], "E002"), (f"cellcast:{STRONG}", "E001")],
)
def test_deployment_reports_once_that_nobody_gets_in(
    settings: Any, value: object, expected: str
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = value
    checks_of_secrets = (check_settings, check_secrets, check_secrets_for_deployment)
    assert [found for each in checks_of_secrets for found in ids(each)] == [expected]


# The other settings


WRONG: dict[str, list[object]] = {
    "CELLCAST_WEBHOOK_SECRETS": ["cellcast:secret", None, {"cellcast:secret"}, {"a": "b"}],
    "CELLCAST_DEFAULT_REGION": ["", "au", "Australia", "ZZ", None, 61, ["AU"]],
    "CELLCAST_RUN_HANDLERS": ["", None, ["default"], "\udcff"],
    "CELLCAST_PUBLIC_URL": [
        "sms.example.com",
        "ftp://sms.example.com",
        "https://",
        "https://sms.example.com/webhooks",
        "https://sms.example.com/?",
        "https://sms.example.com#top",
        "https://me:secret@sms.example.com",
        "https://sms.example.com ",
        "https://sms.example.com:port",
        "https://sms.example.com:0",
        "https://[::1",
        "https://sms℀example.com",  # "a/c", once it is normalised
        "https://münchen.example",
        None,
        b"https://sms.example.com",
    ],
    "CELLCAST_API_KEY": [None, b"key", 5, ["key"], "two words", "line\n", " ", "schlüssel"],
    "CELLCAST_API_URL": [  # what makes a URL of no use is tried above
        "http://api.cellcast.com",
        "http://localhost.example.com",
        "https://me:secret@api.cellcast.com",
        "https://api.cellcast.com/api/v1",
        "",
        None,
    ],
    "CELLCAST_DIRECTORY": [None, 7, ["shop.names.Customers"]],
    "CELLCAST_MAIL_REPLIES_TO": [None, "me@example.com", ["me"], [None]],
    "CELLCAST_SEND_WITH": [None, 7, print],
}
for name in ("MAX_BODY_BYTES", "HANDLER_LEASE", "HANDLER_MAX_ATTEMPTS"):
    WRONG[f"CELLCAST_{name}"] = [0, -1, 1.5, "300", True, None]
for name in ("STOP_WORDS", "STOP_HINTS", "OWN_NUMBERS"):
    WRONG[f"CELLCAST_{name}"] = [None, "stop", {"stop"}, 7, ["stop", None], ["stop", ""], ["…"]]


def test_every_setting_is_tried() -> None:
    assert {*WRONG} == {*RULES}


@pytest.mark.parametrize(
    ("name", "value"), [(name, each) for name, some in WRONG.items() for each in some]
)
def test_wrong_value_is_an_error(settings: Any, name: str, value: object) -> None:
    setattr(settings, name, value)
    assert ids(check_settings) == ["E001"]
    assert name in next(check_settings()).msg


# The API


def test_own_function_to_send_with_needs_a_key_and_urllib3(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.api.send_sms"
    assert ids(check_api) == ["E008"]
    settings.CELLCAST_API_KEY = "4f1c9a52"
    assert ids(check_api) == []
    monkeypatch.setattr(api, "urllib3", None)
    assert ids(check_api) == ["E008"]
    settings.CELLCAST_SEND_WITH = "tests.test_checks.ids"
    assert ids(check_api) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cellcast_django.testing.pretend_to_send", ["E009"]),
        ("cellcast_django.api.send_sms", []),
        ("", []),
    ],
)
def test_deployed_site_may_not_only_pretend_to_send(
    settings: Any, path: str, expected: list[str]
) -> None:
    settings.CELLCAST_SEND_WITH = path
    assert ids(check_sending_for_deployment) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8765", ["W015"]),
        ("https://localhost/", ["W015"]),
        ("http://[::1]:8765", ["W015"]),
        ("https://api.cellcast.com", []),
        ("https://127.0.0.1.example.com", []),
    ],
)
def test_deployed_site_may_not_ask_the_simulator(
    settings: Any, url: str, expected: list[str]
) -> None:
    settings.CELLCAST_API_URL = url
    assert ids(check_sending_for_deployment) == expected


# Tasks

IMMEDIATE = f"{tasks_package().__name__}.backends.immediate.ImmediateBackend"


@pytest.fixture
def task_mode(settings: Any) -> Any:
    """Run handlers by tasks."""
    settings.CELLCAST_RUN_HANDLERS = "default"
    return settings


def test_task_mode_needs_a_django_with_tasks(
    task_mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    assert ids(check_task_backend) == ["E005"]


@pytest.mark.parametrize(
    ("tasks", "is_usable"),
    [
        *(({"sms": {"BACKEND": IMMEDIATE, "QUEUES": each}}, True) for each in ([], ["default"])),
        ({"sms": {"BACKEND": IMMEDIATE, "QUEUES": ["mail", "default"]}}, True),
        ({"sms": {"BACKEND": IMMEDIATE, "QUEUES": ["mail"]}}, False),
        ({"sms": {"BACKEND": "nowhere.Backend"}}, False),
        ({"sms": {"BACKEND": f"{__name__}.ids"}}, False),
        ({"sms": {}}, False),
        ({"default": {}}, False),
    ],
)
def test_unusable_task_backend_is_an_error(
    task_mode: Any, tasks: dict[str, Any], is_usable: bool
) -> None:
    task_mode.TASKS = {"default": {}} | tasks
    task_mode.CELLCAST_RUN_HANDLERS = "sms"
    assert ids(check_task_backend) == ([] if is_usable else ["E005"])


# The way to the views


class EmptyURLConf:
    """A project without the app's URLs."""

    urlpatterns: list[Any] = []


class CatchAll:
    """A project with a page for every path before the app's URLs."""

    urlpatterns = [
        re_path(".*", lambda request: HttpResponse()),
        path("sms/", include("cellcast_django.urls")),
    ]


class OnlyPosts(WebhookView):
    """A host's own, as documented."""


class OwnStatusView:
    """A project with a view of its own at one URL, and the wrong one at another."""

    urlpatterns = [
        path("sms/webhook-status", OnlyPosts.as_view(endpoint=Endpoint.STATUS)),
        path("sms/webhook-opt-out", OnlyPosts.as_view(endpoint=Endpoint.STATUS)),
        path("sms/", include("cellcast_django.urls")),
    ]


@pytest.mark.parametrize(
    ("urlconf", "expected"),
    [
        (EmptyURLConf, ["W003"]),
        (None, ["W003"]),
        (CatchAll, ["W004"] * len(WEBHOOKS)),
        (OwnStatusView, ["W004"]),
    ],
)
def test_missing_urls_and_a_view_before_them_warn(
    settings: Any, urlconf: object, expected: list[str]
) -> None:
    settings.ROOT_URLCONF = urlconf
    assert ids(check_urls) == expected


def test_urls_below_a_script_name_pass(settings: Any) -> None:
    with override_script_prefix("/app/"):
        assert WEBHOOKS[0].path().startswith("/app/")
        assert ids(check_urls) == []


def test_urls_that_only_a_request_can_resolve_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Webhook, "path", lambda self: "/elsewhere")
    assert ids(check_urls) == []


WITHOUT_HTTPS = {"CELLCAST_PUBLIC_URL": "http://sms.example.com"}
REDIRECTS = WITHOUT_HTTPS | {"SECURE_SSL_REDIRECT": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (WITHOUT_HTTPS | {"SECURE_HSTS_SECONDS": 3600}, ["W007"]),
        ({"CELLCAST_PUBLIC_URL": ""}, ["W007"]),
        ({"CELLCAST_PUBLIC_URL": "https://sms.example.com"}, []),
        ({"SECURE_SSL_REDIRECT": True}, []),
        ({"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, []),
        ({"SECURE_HSTS_SECONDS": 3600}, []),
        # A redirect would eat webhooks
        (REDIRECTS, ["W007", "W008"]),
        (REDIRECTS | {"CELLCAST_PUBLIC_URL": "https://sms.example.com"}, []),
        (REDIRECTS | {"CELLCAST_PUBLIC_URL": ""}, []),
        (REDIRECTS | {"CELLCAST_PUBLIC_URL": "http:sms.example.com"}, []),
        (REDIRECTS | {"SECURE_SSL_REDIRECT": False}, ["W007"]),
        (REDIRECTS | {"SECURE_REDIRECT_EXEMPT": ["^admin/", "^sms/"]}, ["W007"]),
        (REDIRECTS | {"MIDDLEWARE": []}, ["W007"]),
    ],
)
def test_deployment_needs_https_and_no_redirect_to_it(
    settings: Any, changes: dict[str, Any], expected: list[str]
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ids(check_https) == expected


KEPT = {"CONN_MAX_AGE": 60}
ANSWERS = {"connect_timeout": 2}


@pytest.mark.parametrize(
    ("vendor", "settings_of_it", "options", "expected"),
    [
        ("sqlite", {}, {}, ["W009", "W010"]),
        ("sqlite", KEPT, {"transaction_mode": "IMMEDIATE"}, ["W010"]),
        ("sqlite", KEPT, RECOMMENDED["sqlite"]["OPTIONS"], []),
        (
            "sqlite",
            KEPT,
            {
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
            },
            ["W014"],
        ),
        ("postgresql", {}, {}, ["W009", "W012"]),
        ("postgresql", {"CONN_MAX_AGE": None}, ANSWERS, []),
        ("postgresql", {}, ANSWERS | {"pool": True}, []),
        (
            "postgresql",
            KEPT,
            ANSWERS | {"options": "-c synchronous_commit=off"},
            ["W014"],
        ),
        ("mysql", KEPT, {}, ["W012"]),
        ("mysql", KEPT, RECOMMENDED["mariadb"]["OPTIONS"], []),
    ],
)
def test_risky_database_options_warn(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    settings_of_it: dict[str, Any],
    options: dict[str, Any],
    expected: list[str],
) -> None:
    """Whatever the engine is called: PostGIS, SpatiaLite and wrapped backends count too."""
    database = {"ENGINE": "shop.backend", "CONN_MAX_AGE": 0, "OPTIONS": options} | settings_of_it
    opened = SimpleNamespace(vendor=vendor, settings_dict=database)
    monkeypatch.setattr(checks, "connections", {"default": opened})
    assert ids(check_database_options) == expected


@pytest.mark.parametrize(
    ("vendor", "is_mariadb", "asked", "expected"),
    [
        ("mysql", False, ["default"], ["E010"]),
        ("mysql", True, ["default"], []),
        ("sqlite", None, ["default"], []),
        ("mysql", None, ["other"], []),  # which may be anything
        ("mysql", None, None, []),  # a check that opens no database
    ],
)
def test_mysql_is_an_error_when_migrating(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    is_mariadb: bool | None,
    asked: list[str] | None,
    expected: list[str],
) -> None:
    opened = SimpleNamespace(alias="default", vendor=vendor)
    if is_mariadb is not None:  # else it must not be asked
        opened.mysql_is_mariadb = is_mariadb
    monkeypatch.setattr(checks, "connections", {"default": opened})
    assert ids(partial(check_vendor, databases=asked)) == expected


# Registration


def test_ids_are_unique() -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    found = re.findall(r'"cellcast_django\.([EWI]\d{3})"', source)
    assert found
    assert len(found) == len(set(found))


def registered_ids(*, deploy: bool) -> list[str]:
    messages = run_checks(tags=[checks.TAG], include_deployment_checks=deploy)
    return sorted(str(message.id).removeprefix("cellcast_django.") for message in messages)


@pytest.fixture
def _recommended_database(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = {"mysql": "mariadb"}.get(connection.vendor, connection.vendor)
    for name, value in RECOMMENDED[vendor].items():
        monkeypatch.setitem(connection.settings_dict, name, value)


@pytest.mark.usefixtures("_recommended_database")
def test_django_runs_the_checks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []
    settings.CELLCAST_DEFAULT_REGION = "ZZ"
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    assert registered_ids(deploy=False) == ["E001"]
    assert {*registered_ids(deploy=True)} == {"E001", "E004", "W007", "W009"}


@pytest.mark.usefixtures("_recommended_database")
def test_recommended_settings_pass_all_checks(settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    assert registered_ids(deploy=True) == []


# What a dotted path names


def takes_three(receiver: str, body: str, sender: str) -> Any: ...


def takes_reference(receiver: str, body: str, sender: str, *, reference: str) -> Any: ...


def takes_four(receiver: str, body: str, sender: str, key: str) -> Any: ...


async def is_async(*arguments: Any) -> Any: ...


class AsyncSender:
    async def __call__(self, receiver: str, body: str, sender: str) -> str: ...  # type: ignore[empty-body]


async_sender = AsyncSender()


class Customers(Directory):
    """A host's own, by the documentation."""

    def names(self, contacts: list[str]) -> dict[str, str]:
        return {}


class OnlySearches:
    """A host's own, of nothing of ours."""

    def search(self, words: str, limit: int = 201) -> list[str]:
        return []


class NeedsSomething(Directory):
    def __init__(self, clinic: str) -> None: ...


class AsksAsynchronously(Directory):
    async def names(self, contacts: list[str]) -> dict[str, str]:  # type: ignore[override]
        return {}


class TakesNothing(Directory):
    def references(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


class NamesAreADict:
    names: ClassVar = {"+61400000001": "Mrs Lee"}


FUNCTIONS = {
    "CELLCAST_SEND_WITH": [
        ("send_sms", ": ImportError"),
        ("shop.sms.send_sms", ": ModuleNotFoundError"),
        ("tests.test_checks.nobody", ": ImportError"),
        ("tests.test_checks.__doc__", "is not callable"),
        ("tests.test_checks.is_async", "is asynchronous"),
        ("tests.test_checks.async_sender", "is asynchronous"),
        ("tests.test_checks.takes_four", "does not take"),
        ("tests.test_checks.takes_three", "does not take"),
        ("tests.test_checks.takes_reference", ""),
        ("builtins.max", ""),  # whose signature is unknown
    ],
    "CELLCAST_DIRECTORY": [
        ("shop.names.Customers", ": ModuleNotFoundError"),
        ("tests.test_checks.takes_three", "is no class"),
        ("tests.test_checks.NeedsSomething", "does not take"),
        ("tests.test_checks.AsksAsynchronously", "names that is asynchronous"),
        ("tests.test_checks.TakesNothing", "references that does not take"),
        ("tests.test_checks.NamesAreADict", "names that is not callable"),
        ("tests.test_checks.OnlySearches", ""),
        ("tests.test_checks.Customers", ""),
    ],
}


@pytest.mark.parametrize(
    ("name", "path", "problem"),
    [(name, *each) for name, some in FUNCTIONS.items() for each in some],
)
def test_what_a_path_names_is_looked_at(settings: Any, name: str, path: str, problem: str) -> None:
    setattr(settings, name, path)
    assert ids(check_callables) == ["E006"] * bool(problem)
    assert all(problem in message.msg for message in check_callables())


# The rest of the project


@pytest.mark.parametrize(("value", "expected"), [(False, ["E007"]), (True, [])])
def test_times_without_a_zone_are_an_error(settings: Any, value: bool, expected: list[str]) -> None:
    settings.USE_TZ = value
    assert ids(check_time_zone) == expected


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CELLCAST_WEBHOOK_SECRET", "CELLCAST_WEBHOOK_SECRETS"),
        ("CELLCAST_HANDLERS_MAX_ATTEMPTS", "CELLCAST_HANDLER_MAX_ATTEMPTS"),
        ("CELLCAST_STOPWORDS", "CELLCAST_STOP_WORDS"),
    ],
)
def test_misspelt_setting_warns(settings: Any, name: str, meant: str) -> None:
    setattr(settings, name, "")
    [message] = check_settings()
    assert message.id == "cellcast_django.W006"
    assert name in message.msg
    assert meant in str(message.hint)


def test_setting_of_the_hosts_own_passes(settings: Any) -> None:
    settings.CELLCAST_GATEWAY = settings.CELLCAST_SENDER = settings.SELLCAST_API_URL = "x"
    assert ids(check_settings) == []
