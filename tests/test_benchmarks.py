"""The benchmarks, which the source distribution leaves out: their rows, and figures of theirs."""

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import Count, F

from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.statuses import Status
from tests.pages import ROOT, table

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="they are left out")
MESSAGES = 5_000


def constraints() -> dict[str, set[str]]:
    with connection.cursor() as cursor:
        return {
            model._meta.db_table: set(
                connection.introspection.get_constraints(cursor, model._meta.db_table)
            )
            for model in apps.get_app_config("cellcast_django").get_models()
        }


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="they are filled by its SQL")
def test_benchmark_rows_equal_the_apps_own() -> None:
    from benchmarks import filling, sizes  # they need psycopg

    before = constraints()
    filling.fill(sizes.address(connection.settings_dict), MESSAGES)
    assert constraints() == before
    assert Message.objects.count() == MESSAGES
    assert set(StatusChange.objects.values_list("status", flat=True)) <= set(Status.values)
    without_history = Message.objects.alias(rows=Count("status_history")).filter(rows=0)
    assert not without_history.exists()
    assert not StatusChange.objects.exclude(event__message=F("message")).exists()
    for model in (Message, StatusChange, WebhookEvent, OptOut):
        for each in model.objects.order_by("?")[:20]:
            each.clean_fields()
    stops = set(Message.objects.filter(body="STOP").values_list("contact", flat=True))
    assert set(OptOut.objects.active().values_list("contact", flat=True)) == stops != set()


def test_documented_rates_equal_measured_ones() -> None:
    measured = {
        tuple(row[:2]): row[2] for row in table("benchmarks/README.md", "database", "variant")
    }
    steps = table("docs/scaling.md", "step")
    assert [row[2].split()[0] for row in steps[:3]] == [
        measured["SQLite", "app, one handler"],
        measured["PostgreSQL", "app, one handler"],
        measured["PostgreSQL", "app, task mode"],
    ]
