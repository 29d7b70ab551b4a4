"""A database that is older than the code: how that is seen, and what is said of it."""

import re

from django.db import OperationalError, ProgrammingError
from django.utils.translation import gettext_noop

from cellcast_django.database.transactions import _code_of

OLD_TABLES = gettext_noop("The tables are not those of this version: run migrate.")

MISSING_CODES = frozenset({"42P01", "42703", 1146, 1054})  # of PostgreSQL, and MariaDB's numbers
MISSING_WORDS = re.compile("no such (table|column)|has no column named")  # SQLite has no codes


def is_of_old_tables(error: Exception) -> bool:
    """Whether the database says that it has no such table or column."""
    return isinstance(error, OperationalError | ProgrammingError) and (
        _code_of(error) in MISSING_CODES or bool(MISSING_WORDS.search(str(error)))
    )
