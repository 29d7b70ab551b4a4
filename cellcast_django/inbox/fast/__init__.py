"""The common case, one event that is an opt-out or has a known status, in plain SQL.

An accelerator that registers itself when the app starts: delete the folder, and every behavioural
test still passes.
"""

from cellcast_django import inbox
from cellcast_django.database.vendors import DIALECTS
from cellcast_django.inbox.fast import one_statement, plain_statements

inbox.FAST_WAYS |= dict.fromkeys(DIALECTS, plain_statements.write_by_row)
inbox.FAST_WAYS["postgresql"] = one_statement.write_at_once  # its statements combine writes
