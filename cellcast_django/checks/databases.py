"""What the project's databases mean for webhooks and handlers."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning as Notice
from django.db import connections, router
from django.utils.translation import gettext

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
