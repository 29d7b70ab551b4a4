"""Columns and indexes that mean the same on every database.

Migrations import these classes: what they make of a table is as frozen as the migrations are.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Combinable

from cellcast_django.database.vendors import VENDORS

if TYPE_CHECKING:
    # Django's own, with what they hold: pyright knows django-stubs without their plugin.
    Time = str | datetime | date | Combinable
    BooleanField = models.BooleanField[bool | Combinable, bool]
    CharField = models.CharField[str | int | Combinable, str]
    DateTimeField = models.DateTimeField[Time, datetime]
    NullableDateTimeField = models.DateTimeField[Time | None, datetime | None]
    PositiveIntegerField = models.PositiveIntegerField[int | Combinable, int]
    TextField = models.TextField[str | Combinable, str]
else:  # which cannot be subscripted
    BooleanField = models.BooleanField
    CharField = models.CharField
    DateTimeField = NullableDateTimeField = models.DateTimeField
    PositiveIntegerField = models.PositiveIntegerField
    TextField = models.TextField


class ExactCharField(CharField):
    """Compares exactly, by case, accent and trailing space, on MariaDB too."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        collation = VENDORS[connection.vendor].exact_collation
        return _collated(super().db_parameters(connection), collation)


class UnicodeTextField(TextField):
    """Stores every character, emoji too, on MariaDB too, whatever its character set."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        collation = VENDORS[connection.vendor].unicode_collation
        return _collated(super().db_parameters(connection), collation)


def _collated(parameters: Any, collation: str | None) -> Any:
    return parameters | {"collation": collation} if collation else parameters


class PartialIndex(models.Index):
    """An index of the rows that match ``where``; on MariaDB of all rows, and without W037."""

    def __init__(self, *, where: models.Q, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        # Not an index of the model's with a ``condition``: Django leaves that out on MariaDB, and
        # warns (W037) each project there of what it cannot change.
        index = models.Index(fields=self.fields, name=self.name, condition=self.where)
        return index.create_sql(model, schema_editor, using, **kwargs)

    def deconstruct(self) -> Any:
        path, arguments, keywords = super().deconstruct()
        return path, arguments, keywords | {"where": self.where}
