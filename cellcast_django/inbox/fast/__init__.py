"""The common case, one event that is an opt-out or has a known status, in plain SQL.

An accelerator that registers itself when the app starts: delete the folder, and every behavioural
test still passes.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django import inbox
from cellcast_django.database.vendors import vendor_of
from cellcast_django.inbox.drafts import Draft
from cellcast_django.inbox.fast import one_statement, plain_statements
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import WebhookEvent


def write(
    connection: BaseDatabaseWrapper, draft: Draft, before_commit: BeforeCommit | None
) -> WebhookEvent | None:
    """Write an event of the common case, in the way of its database; see ``inbox.FastWay``."""
    dialect = vendor_of(connection).dialect
    # SQLite has RETURNING from 3.35.
    if dialect is None or not connection.features.can_return_columns_from_insert:
        return None
    if dialect.combines_writes:
        return one_statement.write_at_once(connection, draft, before_commit)
    return plain_statements.write_by_row(connection, draft, before_commit)


inbox.write_fast = write
