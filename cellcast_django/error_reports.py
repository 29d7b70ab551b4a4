"""Keeps passwords, keys, numbers and texts out of error trackers; shows errors to tests."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from traceback import clear_frames
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def hides_variables(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that its exceptions keep their traceback but no frame's variables.

    Error trackers report those of every frame, and ignore Django's ``sensitive_variables``.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # of this frame: a running one cannot be cleared
            _clear_frames_of(error)
            raise

    return wrapper


def _clear_frames_of(error: BaseException) -> None:
    """Clear the frames of an exception, and of its causes and contexts."""
    chain: list[BaseException | None] = [error]
    seen = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            clear_frames(each.__traceback__)
            chain += [each.__cause__, each.__context__]


handler_errors: ContextVar[list[BaseException] | None] = ContextVar("handler_errors", default=None)
"""For tests: a list that collects what handlers raise; otherwise only its text is kept."""


def show_to_test(error: BaseException) -> None:
    """Let a host project's test raise an error that goes no further here, if one runs."""
    if (errors := handler_errors.get()) is not None:
        errors.append(error)
