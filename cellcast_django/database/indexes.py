"""Partial indexes, on every database that has them."""

from typing import Any

from django.db import models


class PartialIndex(models.Index):
    """An index of the rows that match ``where``; of all rows on MariaDB and MySQL.

    Django's own index with a ``condition`` does the same, but warns every project on those two
    (``models.W037``) about something it cannot change.
    """

    def __init__(self, *, where: models.Q, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """Return the statement that creates the index."""
        index = models.Index(fields=self.fields, name=self.name, condition=self.where)
        return index.create_sql(model, schema_editor, using, **kwargs)

    def deconstruct(self) -> Any:
        """Return what a migration needs to build the index."""
        path, arguments, keywords = super().deconstruct()
        return path, arguments, keywords | {"where": self.where}
