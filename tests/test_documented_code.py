"""What the code on the pages does, and the tables that say what ours does."""

import json
import os
import re
import runpy
import sys
import unittest
from collections.abc import Iterator
from datetime import timedelta
from inspect import signature
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, call, patch

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.core.checks import Error, run_checks
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone
from django.utils.module_loading import import_string

import cellcast_django
from cellcast_django import (
    checks,
    testing,
)
from cellcast_django.factories import HandlerCallFactory, WebhookEventFactory
from cellcast_django.models import (
    Message,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out, may_want_to_stop
from cellcast_django.testing import WebhookClient
from tests.admin_pages import listed, url_of
from tests.fake_cellcast import FakeCellcast
from tests.pages import (
    PAGE_NAMES,
    blocks,
    code_words,
    settings_of,
    table,
    text_of,
)
from tests.recommended import RECOMMENDED

pytestmark = pytest.mark.usefixtures("disconnected_afterwards")

PACKAGE = Path(cellcast_django.__file__).parent


# Settings


def test_settings_blocks_pass_the_checks() -> None:
    for name in PAGE_NAMES:
        if not name.startswith("docs/"):
            continue
        found = settings_of(name)
        found.pop("INSTALLED_APPS", None)
        found.pop("DATABASES", None)
        found.pop("LOGGING", None)  # from Django 6.1 on it would stay configured
        found.pop("CELLCAST_SEND_WITH", None)  # which is in the host project
        found["CELLCAST_RUN_HANDLERS"] = "inline"  # its backend need not be installed here
        with override_settings(**found):
            messages = run_checks(tags=[checks.TAG])
        assert not [message for message in messages if isinstance(message, Error)], name


def test_documented_schedules_name_tasks_and_their_arguments() -> None:
    schedules = []
    for name in PAGE_NAMES:
        for block in blocks(name, "python"):
            if "SCHEDULE" in block.code:
                namespace: dict[str, Any] = {}
                block.run(namespace)
                options = namespace.get("TASKS", {}).get("default", {}).get("OPTIONS", {})
                schedules += options.get("SCHEDULES", {}).values()
                schedules += namespace.get("CELERY_BEAT_SCHEDULE", {}).values()
    assert len(schedules) > 4
    for schedule in schedules:
        if schedule["task"].startswith("cellcast_django."):
            task = import_string(schedule["task"])
            signature(task.func).bind(**schedule.get("kwargs", {}))


def test_documented_installed_apps_are_complete() -> None:
    needed = {config.name for config in apps.get_app_configs()} - {"django_tasks_db"}
    assert set(settings_of("docs/getting-started.md")["INSTALLED_APPS"]) >= needed


@pytest.mark.parametrize(
    ("engine", "vendor"),
    [("sqlite3", "sqlite"), ("postgresql", "postgresql"), ("mysql", "mariadb")],
)
def test_documented_database_settings_equal_measured_ones(engine: str, vendor: str) -> None:
    namespace: dict[str, Any] = {"os": os}
    for block in blocks("docs/database.md", "python"):
        if f"backends.{engine}" in block.code:
            block.run(namespace)
            break
    documented = namespace["DATABASES"]["default"]
    measured = RECOMMENDED[vendor]
    assert {name: documented.get(name) for name in measured} == measured
    connections = {"CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "OPTIONS"} & documented.keys()
    assert connections == measured.keys()
    example = runpy.run_path("example_project/settings.py")["DATABASES"]["default"]
    if example["ENGINE"].endswith(engine):
        assert {name: example.get(name) for name in measured} == measured


def test_walk_through_the_code_names_existing_files() -> None:
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", text_of("docs/architecture.md"), re.MULTILINE)
    assert len(files) == 10
    for file in files:
        assert (PACKAGE / file).exists(), file


# What the pages of the second day do


def run_file(page: str, file: str, **namespace: Any) -> dict[str, Any]:
    """Run the one block of a page that is this file, and return its names."""
    [block] = [each for each in blocks(page, "python") if each.first_line == f"# {file}"]
    block.run(namespace)
    return namespace


@pytest.mark.django_db
def test_prometheus_gets_figures(client: WebhookClient, rf: Any) -> None:
    client.reply()
    client.webhook(b"{", "receive")
    WebhookEventFactory.create(outcome="deferred", endpoint="receive", message=None)
    metrics = run_file("docs/recipes.md", "shop/metrics.py")["metrics"]
    lines = metrics(rf.get("/metrics")).content.decode().splitlines()
    assert all(re.fullmatch(r"[a-z_]+(\{[a-z]+=\"[a-z_]+\"\})? [0-9.]+", line) for line in lines)
    assert {"cellcast_handlers_pending 0", "cellcast_deferred 1"} <= set(lines)
    assert 'cellcast_events_last_day{outcome="invalid"} 1' in lines
    assert sum(line.startswith("cellcast_last_webhook") for line in lines) == 1


# What the page of recipes forwards, and the page on opt-outs


@pytest.mark.django_db
def test_events_are_forwarded_again_after_an_outage(
    client: WebhookClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SHOP_FORWARD_URL = "https://second.example"
    post = MagicMock(side_effect=[ConnectionError("503"), *[MagicMock()] * 4])
    monkeypatch.setattr("urllib.request.urlopen", post)
    run_file("docs/recipes.md", "shop/forwarding.py")
    client.reply()
    client.reply()  # a duplicate
    client.webhook(b'[{"_id":"1","status":"sent"}, {"_id":"2","status":"sent"}]', "status")
    client.opt_out()
    event = WebhookEvent.objects.pending().get()
    assert event.calls.failing().get().error == "ConnectionError: 503"
    call_command("cellcast_run_handlers", "--event", str(event.pk), stdout=StringIO())
    first, *others, last = [each.args[0] for each in post.call_args_list]
    assert first.data == last.data == json.dumps(testing.reply_payload()).encode()
    bodies = [{"_id": "1", "status": "sent"}, {"_id": "2", "status": "sent"}]
    assert [json.loads(each.data) for each in others] == [*bodies, testing.opt_out_payload()]
    key = f"cellcast-{event.pk}-{event.received_at:%Y%m%d%H%M%S%f}"
    assert first.headers["Idempotency-key"] == last.headers["Idempotency-key"] == key


@pytest.fixture
def shop_that_asks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of opt-outs.md, its handlers connected; ``Customer`` and others are mocks."""
    names = {"shop.models": ("Customer", "Task"), "shop.sms": ("send_sms",)}
    for module in ("shop", *names):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
        vars(sys.modules[module]).update({name: MagicMock() for name in names.get(module, ())})
    namespace: dict[str, Any] = {"__name__": "shop.handlers"}
    for block in blocks("docs/opt-outs.md", "python"):
        block.run(namespace)
    return namespace


@pytest.mark.django_db
def test_stop_words_do_what_the_table_says(
    shop_that_asks: dict[str, Any], client: WebhookClient
) -> None:
    rows = table("docs/opt-outs.md", "the customer writes")
    texts = [(text, what) for writes, what in rows for text in code_words(writes)]
    for number, (customer, what) in enumerate(texts, start=400_000_000):
        shop_that_asks["Task"].reset_mock()
        client.reply(_id=str(number), sender=f"0{number}", message=customer)
        assert is_opted_out(str(number)) is (what == "opts out"), customer
        asks = shop_that_asks["Task"].objects.get_or_create.called
        assert asks is (what == "shows it to a person"), customer
        shop_that_asks["send_sms"].reset_mock()
        shop_that_asks["text_customer"](f"0{number}", "Sale!")
        shop_that_asks["text_everybody"]([f"+61{number}"], "Sale!")
        assert shop_that_asks["send_sms"].call_count == (0 if what == "opts out" else 2)
    assert len(texts) == 9


# Two teams


@pytest.fixture
def teams(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The site of a host that has what the page on the admin says, and the names of its files."""
    names = run_file("docs/admin.md", "shop/teams.py")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.teams", SimpleNamespace(**names))
    [block] = [each for each in blocks("docs/admin.md", "python") if "get_queryset" in each.code]
    with patch.dict(site._registry):
        block.run({"__name__": "shop.admin"})
        patterns = [path("admin/", site.urls), path("", include("cellcast_django.urls"))]
        monkeypatch.setitem(sys.modules, "shop.urls", SimpleNamespace(urlpatterns=patterns))
        settings.ROOT_URLCONF = "shop.urls"
        yield run_file("docs/admin.md", "shop/management/commands/mail_teams.py")


@pytest.mark.django_db
@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("model", ["message", "statuschange", "webhookevent", "handlercall"])
def test_team_sees_the_rows_of_its_number_alone(
    model: str, reader: Client, admin_client: Client
) -> None:
    for sender in ("+61480000001", "+61480000002", "BrightTeeth"):
        HandlerCallFactory.create(event__message__sender=sender)
    assert (len(listed(reader, model)), len(listed(admin_client, model))) == (0, 3)
    Group.objects.create(name="North").user_set.add(User.objects.get(is_superuser=False))
    [pk] = listed(reader, model)
    assert pk == min(listed(admin_client, model))
    assert reader.get(url_of(model, "change", pk)).status_code == 200
    assert reader.get(url_of(model, "change", pk + 1)).status_code == 302


@pytest.mark.django_db
def test_fetched_reply_is_everybodys(
    fake_cellcast: FakeCellcast, reader: Client, teams: dict[str, Any], mailoutbox: list[Any]
) -> None:
    fake_cellcast.add_reply(timezone.now() - timedelta(hours=1))
    call_command("cellcast_recover", stdout=StringIO())
    [fetched] = Message.objects.unhandled()
    assert listed(reader, "message") == [fetched.pk], "in no team"
    for team in ("North", "South"):
        group = Group.objects.create(name=team)
        group.user_set.set([User.objects.get()])
        assert listed(reader, "message") == [fetched.pk]
        assert reader.get(url_of("message", "change", fetched.pk)).status_code == 200
        group.user_set.clear()
    teams["Command"]().handle()
    assert len(mailoutbox) == 2


@pytest.mark.django_db
def test_each_team_is_mailed_what_waits_for_it(
    client: WebhookClient, teams: dict[str, Any], mailoutbox: list[Any]
) -> None:
    for text in ("one", "two", "stop"):
        client.reply(receiver="0480 000 002", message=text)
    teams["Command"]().handle()
    [mail] = mailoutbox
    assert (mail.to, mail.subject[-1]) == (["south@shop.example.com"], "2")


# The front page, the README, the tests' page, and getting started


@pytest.fixture
def find_order(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """README's handler, connected: returns the mock of ``Order.objects.filter``."""
    order = MagicMock()
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", SimpleNamespace(Order=order))
    blocks("README.md", "python")[0].run({"__name__": "shop.handlers"})
    find: MagicMock = order.objects.filter
    return find


@pytest.mark.django_db
def test_readme_handler_confirms_the_order_that_was_asked_about(
    client: WebhookClient, find_order: MagicMock
) -> None:
    client.reply(message="Yes", sender="+61400000009")  # who was not asked
    Message.objects.record_sent("1", receiver="0400 000 000", reference="order 7")
    client.reply(message="No")
    client.reply(message="Cancel", _id="1", sender="")  # which may be anybody's
    find_order.assert_not_called()
    client.reply(message="yes ")
    assert find_order.mock_calls[:1] == [call(code="order 7")]


@pytest.mark.django_db
def test_readme_handler_leaves_a_wish_to_stop_to_a_person(
    client: WebhookClient, find_order: MagicMock
) -> None:
    Message.objects.record_sent("1", receiver="0400 000 000", reference="order 7")
    client.reply(message="Please take me off this list, no more texts")
    client.reply(message="Yes")
    find_order.assert_called_once()
    assert may_want_to_stop(Message.objects.unhandled().get().body)
    Message.objects.inbound().update(created_at=timezone.now() - timedelta(days=4))
    with pytest.raises(CommandError):
        call_command("cellcast_status", "--max-stop-wish", "3d", stdout=StringIO())


@pytest.mark.django_db(transaction=True)  # TestCase closes the connection of a transaction
def test_documented_test_case_passes() -> None:
    case = run_file("docs/testing.md", "shop/tests.py", __name__="shop.tests")["WebhookTests"]
    result = unittest.TestResult()
    unittest.TestLoader().loadTestsFromTestCase(case).run(result)
    assert result.failures + result.errors == []
    assert result.testsRun == 1
