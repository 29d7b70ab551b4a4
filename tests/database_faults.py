"""A database that refuses, and somebody else who writes at the worst moment."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from django.db import OperationalError, connection


@dataclass
class Refusals:
    """How many statements the database has refused so far."""

    count: int = 0


@contextmanager
def refusing(
    statement: str = "", *, error: BaseException | None = None, times: float = inf
) -> Iterator[Refusals]:
    """Refuse the statements of this connection that match the regular expression."""
    refusals = Refusals()

    def refuse(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if refusals.count < times and re.search(statement, sql, re.DOTALL):
            refusals.count += 1
            raise error or OperationalError("the server is gone")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        yield refusals


def refused_for_another() -> OperationalError:
    """What PostgreSQL says of a transaction that it cannot serialise with another."""
    error = OperationalError("could not serialize access")
    error.__cause__ = type("SerializationFailure", (Exception,), {"sqlstate": "40001"})()
    return error


@contextmanager
def just_before(statement: str, act: Callable[[], object]) -> Iterator[None]:
    """Act once, before the first statement of this connection that matches."""
    acts = [act]

    def act_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if acts and re.search(statement, sql, re.DOTALL):
            acts.pop()()
        return execute(sql, *rest)

    with connection.execute_wrapper(act_first):
        yield
    assert not acts, f"No statement matched {statement!r}."
