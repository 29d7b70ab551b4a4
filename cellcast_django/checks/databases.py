"""What the project's databases mean for webhooks and handlers."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning as Notice
from django.db import connections, router
from django.utils.translation import gettext

from cellcast_django.database.retries import BUDGET_SECONDS

Messages = Iterator[CheckMessage]


def check_atomic_requests(**_: Any) -> Messages:
    """The webhook views are outside ``ATOMIC_REQUESTS``, which handlers may count on."""
    if any(options.get("ATOMIC_REQUESTS") for options in settings.DATABASES.values()):
        yield Info(
            gettext(
                "ATOMIC_REQUESTS does not hold for webhooks: they are committed before "
                "handlers run, and handlers run outside any transaction."
            ),
            hint=gettext("Open transaction.atomic() in each handler that writes more than once."),
            id="cellcast_django.I001",
        )


def check_connections(**_: Any) -> Messages:
    """What the options of the app's database cost in speed, and when they lose webhooks."""
    message = apps.get_model("cellcast_django", "Message")
    options = connections[router.db_for_write(message)].settings_dict
    engine = options["ENGINE"].rpartition(".")[2]
    for is_so, check_id, problem, line in _doubts(engine, options):
        if is_so:
            yield Notice(
                problem,
                hint=gettext("Write into DATABASES: %(line)s") % {"line": line},
                id=f"cellcast_django.{check_id}",
            )


def _doubts(engine: str, options: dict[str, Any]) -> Iterator[tuple[bool, str, str, str]]:
    """Yield whether a doubt holds for these options, its id, its text, and the line to write."""
    driver: dict[str, Any] = options["OPTIONS"]
    pool: Any = driver.get("pool")
    text = str(driver).lower().replace(" ", "")
    yield (
        not options["CONN_MAX_AGE"] and options["CONN_MAX_AGE"] is not None and not pool,
        "W013",
        gettext("Each webhook opens a database connection, which costs more than to store it."),
        '"CONN_MAX_AGE": 60' + ("" if engine == "sqlite3" else ', "CONN_HEALTH_CHECKS": True'),
    )
    yield (
        engine == "sqlite3" and ("journal_mode=wal" not in text or "immediate" not in text),
        "W014",
        gettext('With these options SQLite tells handlers "database is locked" under load.'),
        f'"OPTIONS": {json.dumps(SQLITE_OPTIONS)}',
    )
    yield (
        bool(pool and (pool is True or pool.get("timeout", 30) > BUDGET_SECONDS)),
        "W015",
        gettext("A webhook waits half a minute for the pool while the database is away."),
        '"OPTIONS": {"pool": {"timeout": 2}}',
    )
    yield (
        engine in {"postgresql", "mysql"} and "connect_timeout" not in driver,
        "W016",
        gettext("A webhook waits for minutes while the database's host does not answer."),
        '"OPTIONS": {"connect_timeout": 2}',
    )
    yield (
        re.search("synchronous(_commit)?='?(off|0)", text) is not None,
        "W017",
        gettext("A crash of the database's host loses webhooks that were answered 200."),
        gettext("no option that turns synchronous off"),
    )


SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;"
    ),
}
"""What is recommended for SQLite."""

ENCODINGS = {
    "mysql": ("SELECT @@character_set_client", "utf8mb4"),
    "postgresql": ("SHOW server_encoding", "UTF8"),
}
"""By vendor: what a session is asked, and the answer that stands for every character."""


def check_encoding(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """The database must hold every character that a customer may write.

    Asks the databases that it is given: those of ``migrate`` and of ``check --database``.
    """
    message = apps.get_model("cellcast_django", "Message")
    for alias in databases or ():
        vendor = connections[alias].vendor
        if vendor not in ENCODINGS or not router.allow_migrate_model(alias, message):
            continue
        query, wanted = ENCODINGS[vendor]
        with connections[alias].cursor() as cursor:
            cursor.execute(query)
            [encoding] = cursor.fetchone()
        if encoding.lower() != wanted.lower():
            yield Notice(
                gettext(
                    'The encoding of the database "%(alias)s" is %(encoding)s, so it refuses or '
                    "changes what customers write."
                )
                % {"alias": alias, "encoding": encoding},
                hint=gettext("Use %(wanted)s, as Django does unless told otherwise.")
                % {"wanted": wanted},
                id="cellcast_django.W012",
            )
