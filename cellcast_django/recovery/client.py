"""A small client for the lists of Cellcast's API, which come in pages.

It knows no database and no webhook: paths go in, pages of JSON objects come out. Source for the
envelopes, which come in three shapes: developer.cellcast.com/api-docs. The API key goes into the
``Authorization`` header and nowhere else. No error carries it, nor a frame in which it stood:
reports of errors show the variables of every frame.
"""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from django.views.decorators.debug import sensitive_variables

from cellcast_django.conf import conf, is_api_url
from cellcast_django.payloads import clean, is_too_deep

try:
    import urllib3
except ImportError:  # without the extra, everything but recovery works
    urllib3 = None  # type: ignore[assignment]

MIN_INTERVAL_SECONDS = 0.1
"""Between the beginnings of two requests: ten a second."""

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a request is sent again, unless ``Retry-After`` asks for more."""

MAX_RETRY_AFTER_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
MAX_RESPONSE_SECONDS = 60.0
"""For the whole of a response: a read timeout starts anew with every byte."""

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
MAX_PAGES = 20_000
MAX_DETAIL_LENGTH = 200
CHUNK_BYTES = 65_536

Item = dict[str, Any]


class RecoveryError(Exception):
    """The API cannot be asked, or its response cannot be understood.

    The text is for a person: it says what to do, and has neither the key nor a phone number in it.
    """


class _Response(NamedTuple):
    status: int
    retry_after: str
    body: bytes


class _TemporaryError(Exception):
    """Worth another try; its text says what went wrong."""

    def __init__(self, problem: str, *, retry_after: str = "") -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Client:
    """A client for the API that ``CELLCAST_API_URL`` and ``CELLCAST_API_KEY`` name.

    Use it as a context manager, which closes its connection. Raises ``RecoveryError`` where one of
    the settings, or urllib3, is missing.
    """

    def __init__(self) -> None:
        if urllib3 is None:
            raise RecoveryError(
                'urllib3 is not installed: run pip install "cellcast-django[recovery]".'
            )
        if not conf.api_key:
            raise RecoveryError("There is no usable CELLCAST_API_KEY in the settings.")
        if not is_api_url(conf.api_url):
            raise RecoveryError("CELLCAST_API_URL is not an https:// URL, so no key is sent there.")
        self._next_request_at = time.monotonic()
        self._pool = _connections_to(conf.api_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.clear()

    def pages(self, path: str, **parameters: str | int) -> Iterator[list[Item]]:
        """Yield the items of each page of a list, until its last page or an empty one.

        A list that grows while it is read shifts, so that an item may come twice. Raises
        ``RecoveryError``.
        """
        previous: list[Item] = []
        for number in range(1, MAX_PAGES + 1):
            data = self._get(path, parameters | {"page": number})
            items = _items(data)
            if not items or items == previous:  # past the end, some APIs repeat the last page
                return
            yield items
            if _is_last(data, number):
                return
            previous = items
        raise RecoveryError(f"Stopped after {MAX_PAGES:,} pages of {path}, which has no end.")

    def _get(self, path: str, parameters: dict[str, str | int]) -> Item:
        """Return ``data`` of the response, trying again where that may help."""
        problem = ""
        for pause in (*RETRY_PAUSES, None):
            try:
                return _data(self._send(path, parameters))
            except _TemporaryError as error:
                problem, wait = str(error), _retry_after_seconds(error.retry_after)
            if pause is not None:
                time.sleep(max(pause, wait))
        raise RecoveryError(f"{problem} Gave up after {len(RETRY_PAUSES) + 1} attempts.")

    def _send(self, path: str, parameters: dict[str, str | int]) -> _Response:
        """Send one request. Raises ``_TemporaryError`` when no whole response comes."""
        now = time.monotonic()
        if now < self._next_request_at:
            time.sleep(self._next_request_at - now)
        self._next_request_at = max(now, self._next_request_at) + MIN_INTERVAL_SECONDS
        response = self._exchange(path, parameters)
        if isinstance(response, str):
            # Raised here, outside of any frame that holds the key, and without a context that does.
            raise _TemporaryError(f"Cellcast's API could not be reached ({response}).")
        return response

    @sensitive_variables()
    def _exchange(self, path: str, parameters: dict[str, str | int]) -> _Response | str:
        """Return the response, or the name of the error because of which there is none."""
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {conf.api_key}",
            "User-Agent": "cellcast-django",
        }
        try:
            response = self._pool.request(
                "GET",
                conf.api_url + path,
                fields={name: str(value) for name, value in parameters.items()},
                headers=headers,
                preload_content=False,
                redirect=False,  # the key goes to the address in the settings, and nowhere else
            )
            retry_after = response.headers.get("Retry-After", "")
            return _Response(response.status, retry_after, self._read(response))
        except Exception as error:  # noqa: BLE001  # whatever it is, its frames hold the key
            return type(error).__name__

    def _read(self, response: "urllib3.BaseHTTPResponse") -> bytes:
        """Read the body: a little more than is admitted at most, and not for longer."""
        deadline = time.monotonic() + MAX_RESPONSE_SECONDS
        body = bytearray()
        for chunk in response.stream(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                response.close()
                break
            if time.monotonic() > deadline:
                response.close()
                raise TimeoutError
        response.release_conn()
        return bytes(body)


def _connections_to(url: str) -> "urllib3.PoolManager":
    """Return what connects, by way of the proxy that ``HTTPS_PROXY`` names for the host, if any.

    The proxy sees no more than the host's name. Plain HTTP, to this machine, needs none.
    """
    parts = urlsplit(url)
    proxy = getproxies().get("https") if parts.scheme == "https" else None
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS)
    if proxy and not proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, timeout=timeout, retries=False)
    return urllib3.PoolManager(timeout=timeout, retries=False)


# From a response to its items


@sensitive_variables()  # it may repeat the key
def _data(response: _Response) -> Item:
    """Return ``data`` of the response. Raises ``RecoveryError`` or ``_TemporaryError``.

    A refusal may come as an HTTP status, as a code in the document, or as ``"status": false``.
    """
    document = _parse(response.body)
    code = response.status
    if code == HTTPStatus.OK:
        code = _code(document) or code
    detail = _detail(document)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TemporaryError(
            f"Cellcast's API responded with {code}{detail}.", retry_after=response.retry_after
        )
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise RecoveryError(
            f"Cellcast's API refused the key with {code}{detail}. Check CELLCAST_API_KEY, and "
            "CELLCAST_API_URL: accounts outside Australia have another host."
        )
    if code // 100 != HTTPStatus.OK // 100:
        raise RecoveryError(f"Cellcast's API responded with {code}{detail}.")
    if document.get("status") is False:
        raise RecoveryError(f"Cellcast's API refused the request{detail}.")
    if not document:
        raise RecoveryError("Cellcast's API responded with something that is not a JSON object.")
    data = document.get("data")
    if not isinstance(data, dict):
        raise RecoveryError(f'Cellcast\'s API responded without "data"{_keys_of(document)}.')
    return data


def _parse(body: bytes) -> Item:
    """Return the JSON object; an empty one where it is none, or too long."""
    if len(body) > MAX_RESPONSE_BYTES:
        return {}
    try:
        text = body.decode()
        document = None if is_too_deep(text) else json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _code(document: Item) -> int | None:
    """Return the HTTP status that the document itself names, under 200 all the same."""
    meta = document.get("meta")
    code = meta.get("code") if isinstance(meta, dict) else document.get("code")
    return code if isinstance(code, int) else None


def _detail(document: Item) -> str:
    """Return what the API has to say, without the key and without numbers of customers."""
    message = document.get("message")
    if not isinstance(message, str) or not message.strip():
        return ""
    text = " ".join(clean(message).replace(conf.api_key, "…").split())
    return f": {_LONG_NUMBER.sub('…', text)[:MAX_DETAIL_LENGTH].rstrip('.')}"


_LONG_NUMBER = re.compile(r"\+?\d{6,}")


def _keys_of(document: Item) -> str:
    """Return the names in an unexpected document, for a report: they tell nothing of a person."""
    names = ", ".join(sorted(document)) or "nothing"
    return f"; it has {clean(names)[:MAX_DETAIL_LENGTH]}"


def _items(data: Item) -> list[Item]:
    items = data.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RecoveryError(f'Cellcast\'s API responded without a list of "items"{_keys_of(data)}.')
    return items


def _is_last(data: Item, number: int) -> bool:
    """Whether the list says how many pages it has, and this is the last."""
    total = data.get("totalPages")
    return isinstance(total, int) and 0 < total <= number


def _retry_after_seconds(header: str) -> float:
    """Return how long ``Retry-After`` asks to wait, as seconds or a date, up to a minute."""
    if header.strip().isdecimal():
        seconds = float(header)
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
