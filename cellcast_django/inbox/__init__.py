"""From payloads to rows: one transaction stores messages, their history, the events and calls.

Racing copies of one webhook end as one of each. Start with ``writing``; ``deferring`` keeps what
the database refuses for now.
"""

from cellcast_django.inbox.deferring import defer, read_deferred, reprocess
from cellcast_django.inbox.writing import Stored, store

__all__ = ["Stored", "defer", "read_deferred", "reprocess", "store"]
