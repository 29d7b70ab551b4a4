"""SQLite's commits return at once: nobody reads the tests' rows after a power failure.

It is no option of the tests' database, to which a check of ours would object.
"""

from typing import Any

from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created)
def not_wait_for_the_disk(connection: Any, **kwargs: Any) -> None:
    if connection.vendor == "sqlite" and "init_command" not in connection.settings_dict["OPTIONS"]:
        connection.connection.execute("PRAGMA synchronous=OFF")
