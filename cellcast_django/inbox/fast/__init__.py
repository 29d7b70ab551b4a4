"""The common case, one event that is an opt-out or has a known status, in plain SQL.

An accelerator that registers itself when the app starts: delete the folder, and every behavioural
test still passes.
"""

from cellcast_django import inbox
from cellcast_django.database.vendors import DIALECTS
from cellcast_django.inbox.fast import one_statement, plain_statements

inbox.FAST_WAYS |= {
    vendor: one_statement.write_at_once
    if dialect.combines_writes
    else plain_statements.write_by_row
    for vendor, dialect in DIALECTS.items()
}
