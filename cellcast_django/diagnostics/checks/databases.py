"""Database settings that slow webhooks down, lose them, or surprise handlers."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning as Notice
from django.db import connections, router
from django.utils.translation import gettext

from cellcast_django.database.transactions import BUDGET_SECONDS

Messages = Iterator[CheckMessage]


def check_atomic_requests(**_: Any) -> Messages:
    """The webhook views are exempt from ``ATOMIC_REQUESTS``, which handlers may rely on."""
    if any(options.get("ATOMIC_REQUESTS") for options in settings.DATABASES.values()):
        yield Info(
            gettext(
                "ATOMIC_REQUESTS does not apply to webhooks: they are committed before handlers "
                "run, and handlers run outside any transaction."
            ),
            hint=gettext("Use transaction.atomic() in each handler that writes more than once."),
            id="cellcast_django.I001",
        )


def check_connections(**_: Any) -> Messages:
    """The options of the app's database must not slow webhooks down or lose them."""
    message = apps.get_model("cellcast_django", "Message")
    options = connections[router.db_for_write(message)].settings_dict
    engine = options["ENGINE"].rpartition(".")[2]
    for applies, check_id, problem, line in _problems(engine, options):
        if applies:
            yield Notice(
                problem,
                hint=gettext("In DATABASES, set %(line)s.") % {"line": line},
                id=f"cellcast_django.{check_id}",
            )


def _problems(engine: str, options: dict[str, Any]) -> Iterator[tuple[bool, str, str, str]]:
    """Yield whether a problem applies to these options, its id, its text, and what to set."""
    driver: dict[str, Any] = options["OPTIONS"]
    pool: Any = driver.get("pool")
    text = str(driver).lower().replace(" ", "")
    yield (
        not options["CONN_MAX_AGE"] and options["CONN_MAX_AGE"] is not None and not pool,
        "W013",
        gettext("Every webhook opens a new database connection: slower than storing the webhook."),
        '"CONN_MAX_AGE": 60' + ("" if engine == "sqlite3" else ', "CONN_HEALTH_CHECKS": True'),
    )
    yield (
        engine == "sqlite3" and ("journal_mode=wal" not in text or "immediate" not in text),
        "W014",
        gettext('With these options, handlers get "database is locked" from SQLite under load.'),
        f'"OPTIONS": {json.dumps(SQLITE_OPTIONS)}',
    )
    yield (
        bool(pool and (pool is True or pool.get("timeout", 30) > BUDGET_SECONDS)),
        "W015",
        gettext("When the database is down, a webhook waits half a minute for the pool."),
        '"OPTIONS": {"pool": {"timeout": 2}}',
    )
    yield (
        engine in {"postgresql", "mysql"} and "connect_timeout" not in driver,
        "W016",
        gettext("When the database's host does not respond, a webhook waits for minutes."),
        '"OPTIONS": {"connect_timeout": 2}',
    )
    yield (
        re.search("synchronous(_commit)?='?(off|0)", text) is not None,
        "W017",
        gettext("If the database's host crashes, webhooks already acknowledged with 200 are lost."),
        gettext("no option that turns off synchronous commits"),
    )


SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;"
    ),
}
"""The recommended options for SQLite."""

ENCODINGS = {
    "mysql": ("SELECT @@character_set_client", "utf8mb4"),
    "postgresql": ("SHOW server_encoding", "UTF8"),
}
"""By vendor: the query for the encoding, and the encoding that holds every character."""


def check_encoding(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """The databases that ``migrate`` or ``check --database`` names must hold every character."""
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
                    'The encoding of the database "%(alias)s" is %(encoding)s, which rejects or '
                    "changes some of what customers write."
                )
                % {"alias": alias, "encoding": encoding},
                hint=gettext("Use %(wanted)s, Django's default.") % {"wanted": wanted},
                id="cellcast_django.W012",
            )
