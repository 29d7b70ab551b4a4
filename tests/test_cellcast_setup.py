"""The command cellcast_setup: what it prints, and what it says is missing."""

import re
from io import StringIO
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from cellcast_django.checks import check_secrets
from cellcast_django.management.commands import cellcast_setup
from cellcast_django.webhooks import WEBHOOKS
from tests.commands import output_of
from tests.test_checks import EmptyURLConf

pytestmark = pytest.mark.django_db

SECRET = re.compile(r"cellcast-[0-9a-f]{6}:[A-Za-z0-9]{32}")
OF_THE_TEST_DATABASE = [f"cellcast_django.W{number}" for number in ("009", "010", "012")]
DASHBOARD = "Paste into Cellcast's dashboard.*"
ENVIRONMENT = "Put into your site's environment, or its .env file"
ROTATION = f"{ENVIRONMENT}, to change the password.*"
EXISTING = "first-username:first-long-enough-password"


@pytest.fixture
def new_site(settings: Any) -> Any:
    """Where nothing has been set up but HTTPS."""
    settings.CELLCAST_WEBHOOK_SECRETS = []
    settings.CELLCAST_PUBLIC_URL = ""
    settings.SECURE_HSTS_SECONDS = 3600
    settings.SILENCED_SYSTEM_CHECKS = OF_THE_TEST_DATABASE
    return settings


@pytest.fixture
def ready_site(settings: Any) -> Any:
    """Where all is in place."""
    settings.CELLCAST_WEBHOOK_SECRETS = [EXISTING]
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    settings.SILENCED_SYSTEM_CHECKS = OF_THE_TEST_DATABASE
    return settings


def setup() -> str:
    return output_of("cellcast_setup")


def part(output: str, heading: str) -> str:
    """What stands below a heading."""
    match = re.search(rf"^{heading}\n((?:  .*\n|\n(?=  ))*)", output, re.MULTILINE)
    assert match, output
    return match[1]


# What to paste where


def test_command_prints_what_to_paste_into_the_dashboard(new_site: Any) -> None:
    new_site.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    text = part(setup(), DASHBOARD)
    assert "API KEYS" in text
    assert re.findall(r"^  (\S.*?)  +(\S+)$", text, re.MULTILINE)[: len(WEBHOOKS)] == [
        (webhook.label, webhook.url("https://sms.example.com")) for webhook in WEBHOOKS
    ]


def test_prints_same_fresh_secret_for_dashboard_and_settings(new_site: Any) -> None:
    output = setup()
    dashboard = part(output, DASHBOARD)
    username, password = re.findall(r"(?:Username|Password) +(\S+)", dashboard)
    text = part(output, ENVIRONMENT)
    assert f'CELLCAST_WEBHOOK_SECRETS = ["{username}:{password}"]' in text
    assert f"CELLCAST_WEBHOOK_SECRETS={username}:{password}" in text
    assert SECRET.fullmatch(f"{username}:{password}")


def test_each_fresh_secret_differs_and_passes_checks(new_site: Any) -> None:
    secrets = {":".join(cellcast_setup.new_secret()) for _ in range(50)}
    assert len(secrets) == 50
    new_site.CELLCAST_WEBHOOK_SECRETS = list(secrets)
    assert list(check_secrets()) == []


# With secrets


def test_prints_how_to_change_the_password_without_a_gap(ready_site: Any) -> None:
    text = part(setup(), ROTATION)
    [secret] = set(SECRET.findall(text))
    assert f'CELLCAST_WEBHOOK_SECRETS = [THE_OLD_ONE, "{secret}"]' in text
    assert f'CELLCAST_WEBHOOK_SECRETS="THE_OLD_ONE {secret}"' in text
    output = setup()
    assert "first-username" not in output and "first-long-enough-password" not in output


def test_never_prints_malformed_secret(ready_site: Any) -> None:
    ready_site.CELLCAST_WEBHOOK_SECRETS = ["first-long-enough-password"]
    output = setup()
    assert SECRET.search(part(output, ENVIRONMENT))
    assert "cellcast_django.E002" in part(output, "Still missing")
    assert "first-long-enough-password" not in output


# What is missing


def missing() -> list[str]:
    return re.findall(r"^  (\S.*)$", part(setup(), "Still missing"), re.MULTILINE)


def test_new_site_misses_secret_and_public_url(new_site: Any) -> None:
    url, secret = missing()
    assert "public URL" in url
    assert "cellcast_django.E004" in secret


def test_reports_missing_urls(ready_site: Any) -> None:
    ready_site.ROOT_URLCONF = EmptyURLConf
    output = setup()
    assert "/webhook-" not in part(output, DASHBOARD)
    assert "cellcast_django.W003" in part(output, "Still missing")


def test_reports_pending_migration_and_unreachable_database(
    ready_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [nothing, next_step] = missing()
    assert "cellcast_test_send" in next_step
    assert "cellcast_django." not in nothing
    [newest] = MigrationLoader(connection).graph.leaf_nodes("cellcast_django")
    MigrationRecorder(connection).record_unapplied(*newest)
    assert "manage.py migrate" in part(setup(), "Still missing")
    refuse = MagicMock(side_effect=OperationalError("connection refused"))
    monkeypatch.setattr(cellcast_setup, "MigrationLoader", refuse)
    assert "OperationalError" in missing()[0]


def test_runs_deployment_checks_unless_debug_or_silenced(ready_site: Any) -> None:
    ready_site.CELLCAST_PUBLIC_URL = "http://sms.example.com"
    assert "cellcast_django.W007" in setup()
    ready_site.DEBUG = True
    assert "cellcast_django.W007" not in setup()
    ready_site.DEBUG = False
    ready_site.SILENCED_SYSTEM_CHECKS = [*OF_THE_TEST_DATABASE, "cellcast_django.W007"]
    assert "cellcast_django." not in part(setup(), "Still missing")


def test_command_runs_despite_errors_in_settings(ready_site: Any) -> None:
    ready_site.CELLCAST_PUBLIC_URL = "sms.example.com"
    output = StringIO()
    command = cellcast_setup.Command(stdout=output)
    arguments = command.create_parser("manage.py", "cellcast_setup").parse_args([])
    command.execute(**vars(arguments))  # unlike call_command(), this does not skip the checks
    assert "cellcast_django.E001" in output.getvalue()
    assert "https://your-site.example/sms/webhook-status" in output.getvalue()
