"""What the host projects put between the server and the views."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def read_the_body(get_response: GetResponse) -> GetResponse:
    """Read the body, then the form, as an audit log does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        _ = len(request.body) + len(request.POST)
        return get_response(request)

    return middleware


def forbid_the_default_database(get_response: GetResponse) -> GetResponse:
    """Let no webhook ask the database "default"."""

    def refuse(execute: Any, sql: str, *args: Any) -> Any:
        raise AssertionError(f"A query on the default database: {sql}")

    def middleware(request: HttpRequest) -> HttpResponse:
        with ExitStack() as stack:
            if request.path.startswith("/sms/"):
                stack.enter_context(connections["default"].execute_wrapper(refuse))
            return get_response(request)

    return middleware
