"""System checks: each with a setting that is wrong and one that is right. None opens a database."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.http import HttpResponse
from django.test.utils import override_script_prefix
from django.urls import include, path, re_path

from cellcast_django import api, checks
from cellcast_django.checks import (
    check_api,
    check_atomic_requests,
    check_cacheops,
    check_callables,
    check_connections,
    check_https,
    check_names,
    check_public_url,
    check_redirects,
    check_secrets,
    check_secrets_for_deployment,
    check_stop_words,
    check_task_backend,
    check_task_worker,
    check_time_zone,
    check_urls,
    check_values,
)
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


@pytest.mark.parametrize("value", ["cellcast:secret", None, {"cellcast:secret"}, {"a": "b"}])
def test_secrets_must_be_a_list(settings: Any, value: object) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = value
    assert ids(check_secrets) == ["E001"]


@pytest.mark.parametrize("value", [[], ()])
def test_empty_secrets_warn(settings: Any, value: object) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = value
    assert ids(check_secrets) == ["W001"]


def test_missing_secrets_setting_warns(settings: Any) -> None:
    del settings.CELLCAST_WEBHOOK_SECRETS
    assert ids(check_secrets) == ["W001"]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        b"cellcast:" + STRONG.encode(),
        ("cellcast", STRONG),
        "",
        STRONG,
        f":{STRONG}",
        "cellcast:",
        f" cellcast:{STRONG}",
        f"cellcast :{STRONG}",
        f"cellcast: {STRONG}",
        f"cellcast:{STRONG}\n",
        f"cellcast:{STRONG}\x00{STRONG}",
    ],
)
def test_malformed_secret_is_an_error(settings: Any, entry: object) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"cellcast:{STRONG}", entry]
    [message] = check_secrets()
    assert message.id == "cellcast_django.E002"
    assert message.msg.startswith("Entry 2 ")


@pytest.mark.parametrize(
    "entry", ["username:password", "Username:Password", "user:pass", f"cellcast:<{STRONG}>"]
)
def test_sample_secret_is_an_error(settings: Any, entry: str) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [entry]
    assert ids(check_secrets) == ["E003"]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(f"cellcast:{STRONG[:15]}", id="short"),
        pytest.param("cellcast:abcdeabcdeabcdeabcde", id="few characters"),
        pytest.param("Cellcast-of-our-own:cellcast-of-our-own", id="the username"),
    ],
)
def test_weak_password_warns(settings: Any, entry: str) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [entry]
    assert ids(check_secrets) == ["W002"]


def test_each_wrong_secret_gets_its_own_message(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = ["cellcast:short", STRONG, "username:password"]
    assert ids(check_secrets) == ["W002", "E002", "E003"]


@pytest.mark.parametrize("kind", [list, tuple])
def test_good_secrets_pass(settings: Any, kind: Callable[..., Any]) -> None:
    entries = [f"cellcast:{STRONG}", f"cellcast-2:with:colons and spaces {STRONG}"]
    settings.CELLCAST_WEBHOOK_SECRETS = kind(entries)
    assert ids(check_secrets) == []


@pytest.mark.parametrize("separator", [",", ", ", ";", " ", "\t", "\n"])
def test_two_secrets_glued_into_one_warn(settings: Any, separator: str) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"old:{STRONG}{separator}new:{STRONG}"]
    assert ids(check_secrets) == (["E002"] if separator in "\t\n" else ["W021"])


@pytest.mark.parametrize("password", ["with,comma", "with:colon", "ends,", "a, b", "a,:b", "a,b:"])
def test_password_may_contain_a_separator(settings: Any, password: str) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"cellcast:{STRONG}{password}"]
    assert ids(check_secrets) == []


def test_no_message_shows_a_password(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [
        "cellcast:hunter2",
        "hunter2",
        "cellcast: hunter2",
        "a:hunter2,b:hunter2",
    ]
    assert "hunter2" not in "".join(map(str, check_secrets()))
    settings.CELLCAST_WEBHOOK_SECRETS = "cellcast:hunter2"
    assert "hunter2" not in "".join(map(str, check_secrets()))
    settings.CELLCAST_PUBLIC_URL = "https://cellcast:hunter2@sms.example.com"
    assert "hunter2" not in "".join(map(str, check_public_url()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], "E004"), ((), "E004"), (["no colon"], "E002"), (f"cellcast:{STRONG}", "E001")],
)
def test_deployment_reports_once_that_nobody_gets_in(
    settings: Any, monkeypatch: pytest.MonkeyPatch, value: object, expected: str
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = value
    monkeypatch.setattr(sys, "argv", ["manage.py", "check", "--deploy"])
    assert ids(check_secrets) + ids(check_secrets_for_deployment) == [expected]


def test_deployment_with_usable_secret_passes(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [f"cellcast:{STRONG}"]
    assert ids(check_secrets_for_deployment) == []


@pytest.mark.parametrize(
    "entry",
    [
        f'"cellcast:{STRONG}"',
        f"'cellcast:{STRONG}'",
        f"[cellcast:{STRONG}]",
        f"CELLCAST_WEBHOOK_SECRETS=cellcast:{STRONG}",
        f'CELLCAST_WEBHOOK_SECRETS = ["cellcast:{STRONG}"]',
    ],
)
def test_secret_pasted_with_what_surrounds_it_warns(settings: Any, entry: str) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = [entry]
    assert ids(check_secrets) == ["W021"]


# The other settings


@pytest.mark.parametrize("region", ["", "au", "Australia", "ZZ", None, 61, ["AU"]])
def test_unknown_region_is_an_error(settings: Any, region: object) -> None:
    settings.CELLCAST_DEFAULT_REGION = region
    assert ids(check_values) == ["E005"]


@pytest.mark.parametrize("region", ["AU", "NZ", "US"])
def test_known_region_passes(settings: Any, region: str) -> None:
    settings.CELLCAST_DEFAULT_REGION = region
    assert ids(check_values) == []


NUMBERS = [
    ("CELLCAST_MAX_BODY_BYTES", "E006"),
    ("CELLCAST_HANDLER_LEASE", "E007"),
    ("CELLCAST_HANDLER_MAX_ATTEMPTS", "E008"),
]


@pytest.mark.parametrize(("name", "message_id"), NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "300", True, None])
def test_number_must_be_whole_and_positive(
    settings: Any, name: str, message_id: str, value: object
) -> None:
    setattr(settings, name, value)
    assert ids(check_values) == [message_id]
    [message] = check_values()
    assert {"E006": "bytes", "E007": "seconds", "E008": "calls"}[message_id] in str(message.hint)


@pytest.mark.parametrize(("name", "message_id"), NUMBERS)
def test_whole_positive_number_passes(settings: Any, name: str, message_id: str) -> None:
    setattr(settings, name, 1)
    assert ids(check_values) == []


@pytest.mark.parametrize("value", ["", "Inline", "celery", None, ["task"]])
def test_unknown_way_to_run_handlers_is_an_error(settings: Any, value: object) -> None:
    settings.CELLCAST_RUN_HANDLERS = value
    assert ids(check_values) == ["E009"]


@pytest.mark.parametrize("value", ["inline", "task"])
def test_known_way_to_run_handlers_passes(settings: Any, value: str) -> None:
    settings.CELLCAST_RUN_HANDLERS = value
    assert ids(check_values) == []


@pytest.mark.parametrize(
    "url",
    [
        "sms.example.com",
        "//sms.example.com",
        "ftp://sms.example.com",
        "https://",
        "https:///sms",
        "https://sms.example.com/webhooks",
        "https://sms.example.com/?",
        "https://sms.example.com#top",
        "https://me:secret@sms.example.com",
        "https://sms.example.com ",
        "https://sms.example.com:port",
        None,
        True,
        b"https://sms.example.com",
        "https://sms℀example.com",  # "a/c", once it is normalised
        "https://sms.example.com:99999",
        "https://münchen.example",
    ],
)
def test_public_url_must_be_a_base_url(settings: Any, url: object) -> None:
    settings.CELLCAST_PUBLIC_URL = url
    assert ids(check_public_url) == ["E010"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://sms.example.com",
        "https://sms.example.com/",
        "HTTPS://SMS.example.com",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
def test_base_url_passes(settings: Any, url: str) -> None:
    settings.CELLCAST_PUBLIC_URL = url
    settings.ALLOWED_HOSTS = ["sms.example.com", "localhost", "127.0.0.1", "[::1]"]
    assert ids(check_public_url) == []


def test_public_url_with_disallowed_host_warns(settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    settings.ALLOWED_HOSTS = ["www.example.com"]
    [message] = check_public_url()
    assert message.id == "cellcast_django.W004"
    assert '"sms.example.com"' in str(message.hint)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://localhost:8000", []), ("https://tunnel.example.com", ["W004"])],
)
def test_debug_allows_localhost_as_public_url(settings: Any, url: str, expected: list[str]) -> None:
    settings.CELLCAST_PUBLIC_URL = url
    settings.ALLOWED_HOSTS = []
    settings.DEBUG = True
    assert ids(check_public_url) == expected


# The API


@pytest.mark.parametrize("key", ["", "4f1c9a52", "eyJhbGciOi.J9-_~+/="])
def test_sendable_api_key_passes(settings: Any, key: str) -> None:
    settings.CELLCAST_API_KEY = key
    assert ids(check_api) == []


@pytest.mark.parametrize("key", [None, b"key", 5, ["key"], "two words", "line\n", " ", "schlüssel"])
def test_unsendable_api_key_is_an_error(settings: Any, key: object) -> None:
    settings.CELLCAST_API_KEY = key
    assert ids(check_api) == ["E015"]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.cellcast.com",
        "https://api.cellcast.com/",
        "HTTPS://api.example.com:8443/",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
def test_safe_api_url_passes(settings: Any, url: str) -> None:
    settings.CELLCAST_API_URL = url
    assert ids(check_api) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://api.cellcast.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "api.cellcast.com",
        "ftp://api.cellcast.com",
        "https://",
        "https://me:secret@api.cellcast.com",
        "https://api.cellcast.com?key=1",
        "https://api.cellcast.com/api/v1",
        "https://api.cellcast.com#top",
        "https://api.cellcast.com:port",
        "https://[::1",
        "https://api.cellcast.com\n",
        "https://api .cellcast.com",
        "https://äpi.cellcast.com",
        "",
        None,
        b"https://api.cellcast.com",
    ],
)
def test_unsafe_api_url_is_an_error(settings: Any, url: object) -> None:
    settings.CELLCAST_API_URL = url
    assert ids(check_api) == ["E016"]


def test_missing_api_settings_pass(settings: Any) -> None:
    assert not hasattr(settings, "CELLCAST_API_KEY")
    assert ids(check_api) == []


def test_own_function_to_send_with_needs_a_key(settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = "cellcast_django.api.send_sms"
    assert ids(check_api) == ["E025"]
    settings.CELLCAST_API_KEY = "two words"
    assert ids(check_api) == ["E015"]
    settings.CELLCAST_API_KEY = "4f1c9a52"
    assert ids(check_api) == []


def test_own_function_to_send_with_needs_urllib3(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CELLCAST_API_KEY = "4f1c9a52"
    settings.CELLCAST_SEND_WITH = "cellcast_django.api.send_sms"
    monkeypatch.setattr(api, "urllib3", None)
    assert ids(check_api) == ["E025"]
    settings.CELLCAST_SEND_WITH = "tests.test_checks.ids"
    assert ids(check_api) == []


# Tasks

BACKENDS = f"{tasks_package().__name__}.backends"
IMMEDIATE = f"{BACKENDS}.immediate.ImmediateBackend"
DUMMY = f"{BACKENDS}.dummy.DummyBackend"


class WorkerBackend:
    """A backend of a third party."""

    queues = frozenset({"default"})

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        """Take what Django gives to a backend."""


WORKER = f"{__name__}.WorkerBackend"


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
    assert ids(check_task_backend) == ["E011"]


@pytest.mark.parametrize("alias", ["sms", "", None, ["default"]])
def test_unknown_task_backend_is_an_error(task_mode: Any, alias: object) -> None:
    task_mode.TASKS = {"default": {"BACKEND": IMMEDIATE}}
    task_mode.CELLCAST_TASK_BACKEND = alias
    assert ids(check_task_backend) == ["E012"]


@pytest.mark.parametrize(
    "backend",
    [
        {"BACKEND": "nowhere.Backend"},
        {"BACKEND": f"{__name__}.ids"},
        {},
        {"BACKEND": IMMEDIATE, "QUEUES": ["mail"]},
    ],
)
def test_unusable_task_backend_is_an_error(task_mode: Any, backend: dict[str, Any]) -> None:
    task_mode.TASKS = {"default": backend}
    assert ids(check_task_backend) == ["E012"]
    assert ids(check_task_worker) == []


@pytest.mark.parametrize("queues", [[], ["default"], ["mail", "default"]])
def test_usable_task_backend_passes(task_mode: Any, queues: list[str]) -> None:
    task_mode.TASKS = {"default": {}, "sms": {"BACKEND": IMMEDIATE, "QUEUES": queues}}
    task_mode.CELLCAST_TASK_BACKEND = "sms"
    assert ids(check_task_backend) == []


def test_inline_mode_ignores_task_backend(settings: Any) -> None:
    settings.CELLCAST_TASK_BACKEND = "sms"
    assert ids(check_task_backend) == []
    assert ids(check_task_worker) == []


@pytest.mark.parametrize("backend", [IMMEDIATE, DUMMY])
def test_task_backend_without_worker_warns(task_mode: Any, backend: str) -> None:
    task_mode.TASKS = {"default": {"BACKEND": backend}}
    assert ids(check_task_worker) == ["W005"]


def test_task_backend_with_worker_passes(task_mode: Any) -> None:
    task_mode.TASKS = {"default": {"BACKEND": WORKER}}
    assert ids(check_task_backend) == []
    assert ids(check_task_worker) == []


# The way to the views


class EmptyURLConf:
    """A project without the app's URLs."""

    urlpatterns: list[Any] = []


@pytest.mark.parametrize("urlconf", [EmptyURLConf, None])
def test_missing_urls_warn(settings: Any, urlconf: object) -> None:
    settings.ROOT_URLCONF = urlconf
    assert ids(check_urls) == ["W006"]


def test_included_urls_pass(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.urls"
    assert ids(check_urls) == []


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


@pytest.mark.parametrize(("urlconf", "count"), [(CatchAll, len(WEBHOOKS)), (OwnStatusView, 1)])
def test_view_before_the_urls_warns(settings: Any, urlconf: object, count: int) -> None:
    settings.ROOT_URLCONF = urlconf
    assert ids(check_urls) == ["W023"] * count


def test_urls_below_a_script_name_pass(settings: Any) -> None:
    with override_script_prefix("/app/"):
        assert WEBHOOKS[0].path().startswith("/app/")
        assert ids(check_urls) == []


def test_urls_that_only_a_request_can_resolve_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Webhook, "path", lambda self: "/elsewhere")
    assert ids(check_urls) == []


def test_public_url_without_https_warns(settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "http://sms.example.com"
    settings.SECURE_HSTS_SECONDS = 3600
    assert ids(check_https) == ["W007"]


@pytest.mark.parametrize("url", ["", "sms.example.com", None])
def test_settings_without_https_warn(settings: Any, url: object) -> None:
    settings.CELLCAST_PUBLIC_URL = url
    assert ids(check_https) == ["W007"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELLCAST_PUBLIC_URL", "https://sms.example.com"),
        ("SECURE_SSL_REDIRECT", True),
        ("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")),
        ("SECURE_HSTS_SECONDS", 3600),
    ],
)
def test_any_setting_about_https_passes(settings: Any, name: str, value: object) -> None:
    setattr(settings, name, value)
    assert ids(check_https) == []


def test_redirect_to_https_warns(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.CELLCAST_PUBLIC_URL = "http://sms.example.com"
    assert ids(check_redirects) == ["W008"]


@pytest.mark.parametrize(
    "changes",
    [
        {"CELLCAST_PUBLIC_URL": "https://sms.example.com"},
        {"CELLCAST_PUBLIC_URL": ""},
        {"CELLCAST_PUBLIC_URL": "http:sms.example.com"},
        {"SECURE_SSL_REDIRECT": False},
        {"SECURE_REDIRECT_EXEMPT": ["^admin/", "^sms/"]},
        {"MIDDLEWARE": []},
    ],
)
def test_redirect_to_https_that_misses_webhooks_passes(
    settings: Any, changes: dict[str, Any]
) -> None:
    wrong = {"SECURE_SSL_REDIRECT": True, "CELLCAST_PUBLIC_URL": "http://sms.example.com"}
    for name, value in (wrong | changes).items():
        setattr(settings, name, value)
    assert ids(check_redirects) == []


@pytest.mark.parametrize("url", ["", "https://example.com", "https://wwwexample.com"])
def test_redirect_to_www_warns(settings: Any, url: str) -> None:
    settings.PREPEND_WWW = True
    settings.CELLCAST_PUBLIC_URL = url
    assert ids(check_redirects) == ["W009"]


@pytest.mark.parametrize(
    "changes",
    [
        {"CELLCAST_PUBLIC_URL": "https://www.example.com"},
        {"PREPEND_WWW": False},
        {"MIDDLEWARE": []},
    ],
)
def test_redirect_to_www_that_misses_webhooks_passes(
    settings: Any, changes: dict[str, Any]
) -> None:
    wrong = {"PREPEND_WWW": True, "CELLCAST_PUBLIC_URL": "https://example.com"}
    for name, value in (wrong | changes).items():
        setattr(settings, name, value)
    assert ids(check_redirects) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, []), ({"ATOMIC_REQUESTS": False}, []), ({"ATOMIC_REQUESTS": True}, ["I001"])],
)
def test_atomic_requests_are_noted(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], expected: list[str]
) -> None:
    monkeypatch.setitem(settings.DATABASES, "other", options)
    assert ids(check_atomic_requests) == expected


KEPT = {"CONN_MAX_AGE": 60}
ANSWERS = {"connect_timeout": 2}
LIMITED = ANSWERS | {"options": "-c lock_timeout=2s"}


@pytest.mark.parametrize(
    ("vendor", "settings_of_it", "options", "expected"),
    [
        ("sqlite", {}, {}, ["W013", "W014"]),
        ("sqlite", KEPT, {"transaction_mode": "IMMEDIATE"}, ["W014"]),
        ("sqlite", KEPT, RECOMMENDED["sqlite"]["OPTIONS"], []),
        (
            "sqlite",
            KEPT,
            {
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
            },
            ["W017"],
        ),
        ("postgresql", {}, {}, ["W013", "W016", "W020"]),
        ("postgresql", {"CONN_MAX_AGE": None}, LIMITED, []),
        ("postgresql", {"CONN_MAX_AGE": None}, ANSWERS, ["W020"]),
        ("postgresql", {}, LIMITED | {"pool": True}, ["W015"]),
        ("postgresql", {}, LIMITED | {"pool": {"max_size": 4}}, ["W015"]),
        ("postgresql", {}, LIMITED | {"pool": {"timeout": 2}}, []),
        (
            "postgresql",
            KEPT,
            LIMITED | {"options": "-c lock_timeout=2s -c synchronous_commit=off"},
            ["W017"],
        ),
        ("mysql", KEPT, {}, ["W016", "W020"]),
        ("mysql", KEPT, ANSWERS | {"init_command": "SET innodb_lock_wait_timeout=2"}, ["W020"]),
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
    assert ids(check_connections) == expected


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


def test_connection_check_needs_deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    assert "W013" not in registered_ids(deploy=False)
    assert "W013" in registered_ids(deploy=True)


@pytest.mark.usefixtures("_recommended_database")
def test_django_runs_the_checks(settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []
    settings.CELLCAST_DEFAULT_REGION = "ZZ"
    assert registered_ids(deploy=False) == ["E005", "W001"]
    assert {*registered_ids(deploy=True)} == {"E004", "E005", "W001", "W007"}


@pytest.mark.usefixtures("_recommended_database")
def test_recommended_settings_pass_all_checks(settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    assert registered_ids(deploy=True) == []


# Stop words


LISTS = [
    ("CELLCAST_STOP_WORDS", "E017"),
    ("CELLCAST_STOP_HINTS", "E022"),
    ("CELLCAST_OWN_NUMBERS", "E023"),
]


@pytest.mark.parametrize(("name", "message_id"), LISTS)
@pytest.mark.parametrize("value", [None, "stop", {"stop"}, 7, ["stop", None], ["stop", ""], ["…"]])
def test_list_must_be_one_of_texts(
    settings: Any, name: str, message_id: str, value: object
) -> None:
    setattr(settings, name, value)
    assert ids(check_values) == [message_id]


@pytest.mark.parametrize("word", ["yes", "NO", "Ok.", "y", "1", "10", "thank you"])
def test_ordinary_answer_as_stop_word_warns(settings: Any, word: str) -> None:
    settings.CELLCAST_STOP_WORDS = ["stop", word]
    assert ids(check_stop_words) == ["W010"]
    assert repr(word) in str(next(check_stop_words()))


@pytest.mark.parametrize(("name", "message_id"), LISTS)
@pytest.mark.parametrize("value", [[], ("stop",), ["stop", "опт аут", "no more texts"]])
def test_good_list_passes(settings: Any, name: str, message_id: str, value: object) -> None:
    setattr(settings, name, value)
    assert ids(check_values) == ids(check_stop_words) == []


def test_missing_lists_pass(settings: Any) -> None:
    assert ids(check_values) == ids(check_stop_words) == []


# Functions of the host project


def takes_one(contacts: Any) -> Any: ...


def takes_three(receiver: str, body: str, sender: str, *, reference: str = "") -> Any: ...


def takes_four(receiver: str, body: str, sender: str, key: str) -> Any: ...


async def is_async(*arguments: Any) -> Any: ...


class AsyncSender:
    async def __call__(self, receiver: str, body: str, sender: str) -> str: ...  # type: ignore[empty-body]


async_sender = AsyncSender()

FUNCTIONS = [
    ("CELLCAST_CONTACT_NAMES", "E018", "takes_one"),
    ("CELLCAST_SEND_WITH", "E019", "takes_three"),
    ("CELLCAST_CONTACT_SEARCH", "E020", "takes_one"),
    ("CELLCAST_REFERENCE_LINKS", "E024", "takes_one"),
]


@pytest.mark.parametrize(("setting", "expected", "right"), FUNCTIONS)
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (7, "dotted path"),
        ("send_sms", ": ImportError"),
        ("shop.sms.send_sms", ": ModuleNotFoundError"),
        ("tests.test_checks.nobody", ": ImportError"),
        ("tests.test_checks.__doc__", "is not callable"),
        ("tests.test_checks.is_async", "is asynchronous"),
        ("tests.test_checks.async_sender", "is asynchronous"),
        ("tests.test_checks.takes_four", "does not take"),
    ],
)
def test_unusable_function_is_an_error(
    settings: Any, setting: str, expected: str, right: str, path: object, problem: str
) -> None:
    setattr(settings, setting, path)
    assert ids(check_callables) == [expected]
    assert problem in str(next(check_callables()))


@pytest.mark.parametrize(("setting", "expected", "right"), FUNCTIONS)
def test_usable_function_passes(settings: Any, setting: str, expected: str, right: str) -> None:
    for named in ("", f"tests.test_checks.{right}", "builtins.max"):  # whose signature is unknown
        setattr(settings, setting, named)
        assert ids(check_callables) == []
    wrong = "takes_one" if right == "takes_three" else "takes_three"
    setattr(settings, setting, f"tests.test_checks.{wrong}")
    assert ids(check_callables) == [expected]


# The rest of the project


@pytest.mark.parametrize(("value", "expected"), [(False, ["E021"]), (True, [])])
def test_times_without_a_zone_are_an_error(settings: Any, value: bool, expected: list[str]) -> None:
    settings.USE_TZ = value
    assert ids(check_time_zone) == expected


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CELLCAST_WEBHOOK_SECRET", "CELLCAST_WEBHOOK_SECRETS"),
        ("CELLCAST_HANDLERS_MAX_ATTEMPTS", "CELLCAST_HANDLER_MAX_ATTEMPTS"),
        ("CELLCAST_PUBLIC_URI", "CELLCAST_PUBLIC_URL"),
        ("CELLCAST_STOPWORDS", "CELLCAST_STOP_WORDS"),
        ("CELLCAST_MAX_BODY_BYTE", "CELLCAST_MAX_BODY_BYTES"),
        ("CELLCAST_RUN_HANDLER", "CELLCAST_RUN_HANDLERS"),
    ],
)
def test_misspelt_setting_warns(settings: Any, name: str, meant: str) -> None:
    setattr(settings, name, "")
    [message] = check_names()
    assert message.id == "cellcast_django.W022"
    assert name in message.msg
    assert meant in str(message.hint)


def test_setting_of_the_hosts_own_passes(settings: Any) -> None:
    settings.CELLCAST_GATEWAY = settings.CELLCAST_SENDER = settings.SELLCAST_API_URL = "x"
    assert ids(check_names) == []


@pytest.mark.parametrize(
    ("profiles", "defaults", "expected"),
    [
        ({}, {}, []),
        ({"*.*": {"timeout": 60}}, {}, []),
        ({"*.*": {"ops": "all"}}, {}, ["W024"]),
        ({"*.*": {}}, {"ops": {"get"}}, ["W024"]),
        ({"*.*": {"ops": "all"}, "cellcast_django.*": None}, {}, []),
        ({"cellcast_django.*": {"ops": {"fetch"}}}, {}, ["W024"]),
        ({"cellcast_django.OptOut": {"ops": "get"}}, {}, ["W024"]),
        ({"cellcast_django.optout": {"ops": "get"}, "cellcast_django.*": None}, {}, ["W024"]),
        ({"shop.*": {"ops": "all"}}, {}, []),
    ],
)
def test_cacheops_for_our_models_warns(
    settings: Any, profiles: dict[str, Any], defaults: dict[str, Any], expected: list[str]
) -> None:
    settings.CACHEOPS, settings.CACHEOPS_DEFAULTS = profiles, defaults
    assert ids(check_cacheops) == []
    with patch.object(apps, "is_installed", lambda name: name == "cacheops"):
        assert ids(check_cacheops) == expected
