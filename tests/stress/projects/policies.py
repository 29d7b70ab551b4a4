"""The host's own policies for its API, none of which a webhook may meet."""

from typing import Any, NoReturn

from django.http import HttpResponse
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.throttling import BaseThrottle


class ShoutingRenderer(BaseRenderer):
    media_type = "text/shout"
    format = "shout"

    def render(self, data: Any, *args: Any) -> bytes:
        return repr(data).upper().encode()


class NothingAtAll(BaseThrottle):
    def allow_request(self, *args: Any) -> bool:
        return False


class NoNegotiation(DefaultContentNegotiation):
    def select_renderer(self, *args: Any) -> NoReturn:
        raise AssertionError("The host negotiates nothing.")


def always_a_teapot(*args: Any) -> HttpResponse:
    return HttpResponse("teapot", status=418)
