"""The common case, one event with one known status, in plain SQL.

An accelerator that registers itself when the app starts: delete the folder, and every behavioural
test still passes. SQLite and MariaDB take three statements, PostgreSQL one.
"""

from cellcast_django import inbox
from cellcast_django.inbox.fast import one_statement, three_statements

inbox.FAST_WAYS |= {
    "postgresql": one_statement.write,
    "sqlite": three_statements.write,
    "mysql": three_statements.write,
}
