"""A text column that every database compares to the letter."""

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Combinable

if TYPE_CHECKING:
    CharField = models.CharField[str | int | Combinable, str]
else:  # which cannot be subscripted
    CharField = models.CharField


class ExactCharField(CharField):
    """Compared with case, accents and trailing spaces on MariaDB and MySQL too, as elsewhere.

    Their default collations find ``ABC`` where ``abc`` was asked for, and refuse the second of two
    statuses that differ only in an accent.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return the column's type, for PostgreSQL in its long form.

        Where it reads ``varchar``, Django gives a unique column a second index, for LIKE.
        """
        db_type = super().db_type(connection) or ""
        if connection.vendor == "postgresql":
            return db_type.replace("varchar", "character varying")
        return db_type

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Return the column's type, with a binary collation where the default one is not exact."""
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            is_mariadb = connection.mysql_is_mariadb  # type: ignore[attr-defined]
            parameters["collation"] = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
        return parameters
