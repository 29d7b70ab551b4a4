"""Views that must not run inside a transaction of the host project."""

from typing import Any, TypeVar

from django.db import connections, transaction

V = TypeVar("V", bound=Any)


def outside_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database: what it stores commits at once."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view
