"""A small client for the lists of Cellcast's API, which come in pages.

It knows no database and no webhook: paths go in, pages of JSON objects come out. The API key goes
into the ``Authorization`` header and nowhere else. No error carries the key, nor a frame that held
it, because error reports show the variables of every frame.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from django.views.decorators.debug import sensitive_variables

from cellcast_django.conf import conf, is_api_url
from cellcast_django.payloads import clean, read_object

MAX_RETRY_AFTER_SECONDS = 60.0
MAX_DETAIL_LENGTH = 200

Item = dict[str, Any]


class RecoveryError(Exception):
    """The API cannot be asked, or its response cannot be understood.

    The text tells a person what to do, and contains neither the key nor a phone number.
    """


class Response(NamedTuple):
    """What came back over HTTP. ``retry_after`` is the header, empty without one."""

    status: int
    retry_after: str
    body: bytes


class TemporaryError(Exception):
    """An error worth a retry; the text says what went wrong."""

    def __init__(self, problem: str, *, retry_after: str = "") -> None:
        super().__init__(problem)
        self.retry_after = retry_after


@sensitive_variables()  # the response may repeat the key
def read_data(response: Response) -> Item:
    """Return ``data`` of the response. Raises ``RecoveryError`` or ``TemporaryError``.

    A refusal may come as an HTTP status, as a code in the document, or as ``"status": false``.
    """
    document = read_object(response.body)
    code = response.status
    if code == HTTPStatus.OK:
        code = _code(document) or code
    detail = _detail(document)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TemporaryError(
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


def _code(document: Item) -> int | None:
    """Return the HTTP status that the document gives itself, even when it came with 200."""
    meta = document.get("meta")
    code = meta.get("code") if isinstance(meta, dict) else document.get("code")
    return code if isinstance(code, int) else None


def _detail(document: Item) -> str:
    """Return the API's own message, without the key and without phone numbers."""
    message = document.get("message")
    if not isinstance(message, str) or not message.strip():
        return ""
    text = " ".join(clean(message).replace(conf.api_key, "…").split())
    return f": {_LONG_NUMBER.sub('…', text)[:MAX_DETAIL_LENGTH].rstrip('.')}"


_LONG_NUMBER = re.compile(r"\+?\d{6,}")


def _keys_of(document: Item) -> str:
    """Return the keys of an unexpected document, for a bug report: they say nothing personal."""
    names = ", ".join(sorted(document)) or "nothing"
    return f"; it has {clean(names)[:MAX_DETAIL_LENGTH]}"


def read_items(data: Item) -> list[Item]:
    """Return the items of a page. Raises ``RecoveryError``."""
    items = data.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RecoveryError(f'Cellcast\'s API responded without a list of "items"{_keys_of(data)}.')
    return items


def is_last(data: Item, page: int) -> bool:
    """Whether the list gives its number of pages, and this is the last."""
    total = data.get("totalPages")
    return isinstance(total, int) and 0 < total <= page


def retry_after_seconds(header: str) -> float:
    """Return the seconds that ``Retry-After``, a count or a date, asks for: at most a minute."""
    if header.strip().isdecimal():
        seconds = float(header)
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


try:
    import urllib3
except ImportError:  # without the extra, everything except recovery works
    urllib3 = None  # type: ignore[assignment]

MIN_INTERVAL_SECONDS = 0.1  # between the starts of two requests: ten a second

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a request is sent again, unless ``Retry-After`` asks for more."""

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
MAX_RESPONSE_SECONDS = 60.0  # for the whole response: the read timeout starts anew with every byte

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
MAX_PAGES = 20_000
CHUNK_BYTES = 65_536


class Client:
    """A client for the API at ``CELLCAST_API_URL``, to be used as a context manager.

    Raises ``RecoveryError`` if ``CELLCAST_API_KEY`` or urllib3 is missing, or the URL is invalid.
    """

    def __init__(self) -> None:
        if urllib3 is None:
            raise RecoveryError(
                'urllib3 is not installed: run pip install "cellcast-django[recovery]".'
            )
        if not conf.api_key:
            raise RecoveryError("CELLCAST_API_KEY is not set, or is not a valid key.")
        if not is_api_url(conf.api_url):
            raise RecoveryError(
                "CELLCAST_API_URL is not an https:// URL, so the key is not sent there."
            )
        self._next_request_at = time.monotonic()
        self._pool = _connections_to(conf.api_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.clear()

    def pages(self, path: str, **parameters: str | int) -> Iterator[list[Item]]:
        """Yield the items of each page, up to the last page or an empty one.

        An item may come twice: a list that grows while it is read shifts. Raises ``RecoveryError``.
        """
        previous: list[Item] = []
        for page in range(1, MAX_PAGES + 1):
            data = self._get(path, parameters | {"page": page})
            items = read_items(data)
            if not items or items == previous:  # past the end, some APIs repeat the last page
                return
            yield items
            if is_last(data, page):
                return
            previous = items
        raise RecoveryError(f"Stopped after {MAX_PAGES:,} pages of {path}, which does not end.")

    def _get(self, path: str, parameters: dict[str, str | int]) -> Item:
        """Return ``data`` of the response, after retries if they may help."""
        problem = ""
        for pause in (*RETRY_PAUSES, None):
            try:
                return read_data(self._send(path, parameters))
            except TemporaryError as error:
                problem, wait = str(error), retry_after_seconds(error.retry_after)
            if pause is not None:
                time.sleep(max(pause, wait))
        raise RecoveryError(f"{problem} Gave up after {len(RETRY_PAUSES) + 1} attempts.")

    def _send(self, path: str, parameters: dict[str, str | int]) -> Response:
        """Send one request. Raises ``TemporaryError`` without a complete response."""
        now = time.monotonic()
        if now < self._next_request_at:
            time.sleep(self._next_request_at - now)
        self._next_request_at = max(now, self._next_request_at) + MIN_INTERVAL_SECONDS
        response = self._exchange(path, parameters)
        if isinstance(response, str):
            # Raised here, where no frame holds the key and no exception context does.
            raise TemporaryError(f"Cellcast's API could not be reached ({response}).")
        return response

    @sensitive_variables()
    def _exchange(self, path: str, parameters: dict[str, str | int]) -> Response | str:
        """Return the response, or the name of the error that prevented it."""
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
                redirect=False,  # the key goes only to the address in the settings
            )
            retry_after = response.headers.get("Retry-After", "")
            return Response(response.status, retry_after, self._read(response))
        except Exception as error:  # whatever it is, its frames hold the key
            return type(error).__name__

    def _read(self, response: "urllib3.BaseHTTPResponse") -> bytes:
        """Return the body; empty if it is too large. Raises ``TimeoutError``."""
        deadline = time.monotonic() + MAX_RESPONSE_SECONDS
        body = bytearray()
        for chunk in response.stream(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                response.close()
                return b""
            if time.monotonic() > deadline:
                response.close()
                raise TimeoutError
        response.release_conn()
        return bytes(body)


def _connections_to(url: str) -> "urllib3.PoolManager":
    """Return a pool of connections, through the proxy that ``HTTPS_PROXY`` names, if any.

    The proxy sees only the host's name. Plain HTTP, allowed to localhost only, needs no proxy.
    """
    parts = urlsplit(url)
    proxy = getproxies().get("https") if parts.scheme == "https" else None
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS)
    if proxy and not proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, timeout=timeout, retries=False)
    return urllib3.PoolManager(timeout=timeout, retries=False)
