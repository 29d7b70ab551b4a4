"""What a release has stored is shown, found and gone on with by the code of the tree."""

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import django
import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.test import Client
from django.urls import reverse

from cellcast_django.models import Claim, HandlerCall, Message, WebhookEvent
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.signals import message_received
from cellcast_django.statuses import Status
from cellcast_django.testing import WebhookClient
from tests.desk.every_page import addresses
from tests.handlers import Calls, connected

FOLDER = Path(__file__).resolve().parent
DIGESTS = FOLDER / "digests.json"
SAME_SQL_UNTIL = {"sqlite": (6, 0), "postgresql": (6, 1), "mysql": (5, 2)}
"""Django is known to write the same SQL from 5.2 until this release."""
CHANGED = (
    "{} is not what was released. Put it back, with what it imports: tables are changed by a new "
    "migration, which old code survives. See docs/versions.md, *Migrations*."
)

Release = dict[str, Any]
"""What a file of rows says: ``migrations``, the last one of each app, and ``rows`` by model."""
RELEASES: dict[str, Release] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("rows-*.json")
}

client = WebhookClient()


@contextmanager
def fresh_database(folder: Path, blocker: Any) -> Iterator[None]:
    """Let the connection be to an empty database, as those of the other tests have tables."""
    own = connection.settings_dict["NAME"]
    name = f"test_upgraded_{secrets.token_hex(4)}"
    quoted, is_file = connection.ops.quote_name(name), connection.vendor == "sqlite"

    def use(name: str) -> None:
        connection.close()
        connection.settings_dict["NAME"] = name
        ContentType.objects.clear_cache()

    def on_server(statement: str) -> None:
        if not is_file:
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"{statement} DATABASE {quoted}")

    with blocker.unblock():
        on_server("CREATE")
        use(str(folder / name) if is_file else name)
        try:
            yield
        finally:
            use(own)
            on_server("DROP")


# Migrations


def digests() -> dict[str, dict[str, str]]:
    """Return of each migration the digest of its file, and of its SQL on this database."""
    loader, found = MigrationLoader(connection, replace_migrations=False), {}
    for key, migration in sorted(loader.disk_migrations.items()):
        if key[0].startswith("cellcast_"):
            file = Path(sys.modules[migration.__module__].__file__ or "").read_bytes()
            lines = loader.collect_sql([(loader.graph.nodes[key], False)])
            sql = "\n".join(line for line in lines if not line.startswith("--")).encode()
            parts = {"file": file, connection.vendor: sql}
            found["/".join(key)] = {each: sha256(parts[each]).hexdigest() for each in parts}
    return found


def test_released_migration_is_what_it_was(
    django_db_setup: None, django_db_blocker: Any, tmp_path: Path
) -> None:
    with fresh_database(tmp_path, django_db_blocker):
        found = digests()
    compared = ["file"]
    if django.VERSION[:2] <= SAME_SQL_UNTIL[connection.vendor]:
        compared.append(connection.vendor)
    for name, digest in json.loads(DIGESTS.read_text(encoding="utf-8")).items():
        if name.partition("/")[0] in {each.label for each in apps.get_app_configs()}:
            for each in compared:
                assert found.get(name, {}).get(each) == digest[each], CHANGED.format(name)


# Upgrades


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_rows_have_everything_that_the_release_could_store(release: Release) -> None:
    """Each table, each choice, and each optional column empty and not."""
    missing, historical = [], models_of(release)
    for model in historical.get_app_config("cellcast_django").get_models():
        for field in model._meta.concrete_fields[1:]:
            stored = {str(row[field.attname] or "") for row in release["rows"][model._meta.label]}
            missing += [(field, word) for word, _ in field.flatchoices if word not in stored]
            is_optional = field.null or (field.blank and field.empty_strings_allowed)
            if is_optional and not stored > {""}:
                missing.append((field, "empty and not"))
    assert missing == []


def models_of(release: Release) -> Any:
    """Return the core's models as the release's own code has them."""
    last = ("cellcast_django", release["migrations"]["cellcast_django"])
    return MigrationLoader(None).project_state(last).apps


def migrate(last: dict[str, str]) -> Any:
    """Migrate to the newest, or to the ``last`` one of an app; return the historical models."""
    executor = MigrationExecutor(connection)
    nodes = executor.loader.graph.leaf_nodes()
    return executor.migrate([(app, last.get(app, name)) for app, name in nodes]).apps


def load(rows: dict[str, list[dict[str, Any]]], historical: Any) -> None:
    """Insert the rows as they were; new keys come after theirs."""
    tables = [historical.get_model(label) for label in rows]
    with connection.constraint_checks_disabled(), transaction.atomic():
        for table in tables:
            fields = {field.attname: field for field in table._meta.concrete_fields}
            table.objects.bulk_create(
                table(**{name: fields[name].to_python(value) for name, value in row.items()})
                for row in rows[table._meta.label]
            )
        connection.check_constraints()
    for statement in connection.ops.sequence_reset_sql(no_style(), tables):
        connection.cursor().execute(statement)


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_old_code_stores_in_the_new_tables(
    release: Release, django_db_setup: None, django_db_blocker: Any, tmp_path: Path
) -> None:
    """It names its own columns alone, and the new code reads all of them."""
    with fresh_database(tmp_path, django_db_blocker):
        migrate({})
        load(release["rows"], models_of(release))
        for label, rows in release["rows"].items():
            found = list(apps.get_model(label)._default_manager.order_by("pk"))
            assert [each.pk for each in found] == [row["id"] for row in rows] != []


@pytest.fixture(scope="module", params=RELEASES.values(), ids=[*RELEASES])
def release(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Release]:
    """What a release has stored; the database is the one that it made, migrated since."""
    release: Release = request.param
    with fresh_database(tmp_path_factory.mktemp("upgraded"), django_db_blocker):
        load(release["rows"], migrate(release["migrations"]))
        migrate({})
        yield release


def test_every_page_opens(release: Release) -> None:
    browser = Client()
    browser.force_login(User.objects.get_or_create(is_superuser=True, is_staff=True)[0])
    # Some are only posted to, and some are for nobody; an error is raised.
    assert {browser.get(url).status_code for url in addresses()} == {200, 302, 403}
    for label, rows in release["rows"].items():
        if not site.is_registered(apps.get_model(label)):
            continue
        name = f"admin:{label.lower().replace('.', '_')}"
        changes = [reverse(f"{name}_change", args=[row["id"]]) for row in rows]
        for url in (reverse(f"{name}_changelist"), *changes):
            assert browser.get(url).status_code == 200, url
    if apps.is_installed("cellcast_django.desk"):
        for row in release["rows"]["cellcast_django.Message"]:
            url = reverse("admin:cellcast_django_message_conversation", args=[row["id"]])
            assert browser.get(url).status_code == 200, url


def test_verification_finds_nothing_broken(release: Release) -> None:
    printed = StringIO()
    with suppress(CommandError):  # of something else: no webhook has come for long
        call_command("cellcast_status", "--verify", "--json", stdout=printed)
    assert json.loads(printed.getvalue())["broken"] == []


def test_late_report_lands_on_its_message(release: Release) -> None:
    sent = Message.objects.outbound().exclude(status=Status.DELIVERED)
    waiting, count = dict(sent.values_list("cellcast_id", "pk")), Message.objects.count()
    assert waiting
    for cellcast_id in waiting:
        assert client.status(_id=cellcast_id, status="delivered").status_code == 200
    assert not sent.filter(pk__in=waiting.values()).exists()
    assert Message.objects.count() == count


def test_webhook_that_comes_again_is_about_the_same_message(release: Release) -> None:
    old = WebhookEvent.objects.filter(outcome="stored", is_test=False, message__isnull=False)
    old = old.exclude(body="").exclude(endpoint="api")
    for event in old:
        client.webhook(event.body.encode(), event.endpoint, event.content_type)
        new = WebhookEvent.objects.latest("pk")
        assert (new.outcome, new.message_id) == ("duplicate", event.message_id), event.pk


def test_failed_call_is_made_again_and_done(release: Release) -> None:
    failed = HandlerCall.objects.failed().exclude(event__body="")  # which redaction has emptied
    pks = set(failed.values_list("pk", flat=True))
    with connected(message_received, **{"shop.confirm": (handler := Calls())}):
        call_command("cellcast_run_handlers", "--failed", stdout=StringIO())
    assert 0 < len(pks) == len(handler) == HandlerCall.objects.done().filter(pk__in=pks).count()


def test_deferred_event_is_read(release: Release) -> None:
    rows = release["rows"]["cellcast_django.WebhookEvent"]
    pks = [row["id"] for row in rows if row["outcome"] == "deferred"]
    call_command("cellcast_run_handlers", stdout=StringIO(), stderr=StringIO())
    read = WebhookEvent.objects.filter(pk__in=pks).exclude(message=None)
    assert [*read.values_list("outcome", flat=True)] == ["stored"] * len(pks) != []


def test_opt_outs_still_stand(release: Release) -> None:
    for row in release["rows"]["cellcast_django.OptOut"]:
        assert is_opted_out(row["contact"]) is (row["ended_at"] is None), row
    for row in release["rows"]["cellcast_django.WebhookEvent"]:
        assert "STOP" not in row["body"] or is_opted_out(row["contact"]), row  # deferred, too


def test_new_rows_are_stored_after_the_old_ones(release: Release) -> None:
    with connected(message_received, new=Calls()):
        assert client.reply(sender="+61491578957", message="STOP").status_code == 200
    event = WebhookEvent.objects.latest("pk")
    assert (event.outcome, event.calls.get().state) == ("stored", "done")
    assert Claim.take("a form", timedelta(days=1))
    for label in release["rows"].keys() - {"cellcast_django.CommandRun"}:  # a row a command
        old = max(row["id"] for row in release["rows"][label])
        assert apps.get_model(label)._default_manager.latest("pk").pk > old
