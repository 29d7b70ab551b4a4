"""From payloads to rows: one transaction stores messages, their history, the events and calls.

Racing copies of one webhook end as one message, one status change, one opt-out and one call of each
handler, on every database. Start with ``writing``; ``deferring`` keeps what the database refuses
for now, and reads it later.
"""

from cellcast_django.inbox.deferring import defer, read_deferred, reprocess
from cellcast_django.inbox.writing import Stored, store

__all__ = ["Stored", "defer", "read_deferred", "reprocess", "store"]
