"""A small client for the lists of Cellcast's API, which come in pages.

It knows no database and no webhook: paths go in, pages of items come out. The API key goes into the
``Authorization`` header and nowhere else. No error carries the key, nor a frame that held it,
because error trackers report the variables of every frame.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from cellcast_django.conf import conf, is_api_url
from cellcast_django.deadline import Deadline, TimedSocket
from cellcast_django.error_reports import hides_variables
from cellcast_django.payloads import clean, read_object

try:
    import urllib3
except ImportError:  # without the extra, everything except recovery works
    urllib3 = None  # type: ignore[assignment]

MIN_INTERVAL_SECONDS = 0.1  # between the starts of two requests: ten a second

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a request is sent again, unless ``Retry-After`` asks for more."""

MAX_RETRY_AFTER_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_SECONDS = 60.0  # from the request to the last byte, however slowly they come
MAX_RESPONSE_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 65_536
MAX_PAGES = 20_000
MAX_DETAIL_LENGTH = 200

Item = dict[str, Any]


class Kind(TextChoices):
    """The three lists of the API."""

    REPLIES = "replies", _("Replies")
    STATUSES = "statuses", _("Delivery reports")
    OPT_OUTS = "opt-outs", _("Opt-outs")


class Span(NamedTuple):
    """How far back a recovery looks: nothing older is stored."""

    since: datetime
    now: datetime


@dataclass(slots=True)
class Findings:
    """The results of reading one list."""

    kind: Kind
    seen: int = 0
    """Items read from the list."""
    missing: int = 0
    """Items that were not in the database."""
    stored: int = 0
    """Missing items that are stored now; the others arrived by webhook in the meantime."""
    waiting: int = 0
    """Replies so recent that their webhook may still be on its way."""
    unreadable: int = 0
    """Items that could not be understood."""
    not_listed: int = 0
    """Active opt-outs here that Cellcast does not list."""
    ended: int = 0
    """Opt-outs that were ended here but that Cellcast lists."""
    error: str = ""
    """Why the list could not be read to its end."""

    @property
    def is_read(self) -> bool:
        return not self.error or self.seen + self.unreadable > 0

    def summary(self) -> dict[str, Any]:
        """Return what to keep of the run: no text of Cellcast's."""
        return asdict(self) | {"error": bool(self.error), "is_read": self.is_read}


class RecoveryError(Exception):
    """The API cannot be asked, or its response cannot be understood.

    The text tells a person what to do, and contains neither the key nor a phone number.
    """


class WrongKeyError(RecoveryError):
    """The API does not know the key, so that no list can be read."""


class TemporaryError(Exception):
    """An error worth a retry: what went wrong, and the seconds that the API asks to wait for."""


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
        self._deadline = Deadline(MAX_RESPONSE_SECONDS)
        self._pool = _connections_to(conf.api_url, self._deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.clear()

    def pages(self, path: str, **parameters: str | int) -> Iterator[list[Any]]:
        """Yield the items of each page, up to the last page or an empty one.

        An item may be anything; one may come twice, as a list that grows while it is read shifts.
        Raises ``RecoveryError``.
        """
        previous: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            data = self._get(path, parameters | {"page": page})
            items = data.get("items")
            if not isinstance(items, list):
                raise RecoveryError(
                    f'Cellcast\'s API responded without a list of "items"{_keys_of(data)}.'
                )
            if not items or items == previous:  # past the end, some APIs repeat the last page
                return
            yield items
            total = data.get("totalPages")
            if isinstance(total, int) and 0 < total <= page:
                return
            previous = items
        raise RecoveryError(f"Stopped after {MAX_PAGES:,} pages of {path}, which does not end.")

    @hides_variables
    def _get(self, path: str, parameters: dict[str, str | int]) -> Item:
        """Return ``data`` of the response, after retries if they may help."""
        problem = ""
        for pause in (*RETRY_PAUSES, None):
            try:
                return self._request(path, parameters)
            except TemporaryError as error:
                problem, seconds = error.args
            if pause is not None:
                time.sleep(max(pause, seconds))
        raise RecoveryError(f"{problem} Gave up after {len(RETRY_PAUSES) + 1} attempts.")

    def _request(self, path: str, parameters: dict[str, str | int]) -> Item:
        now = time.monotonic()
        if now < self._next_request_at:
            time.sleep(self._next_request_at - now)
        self._next_request_at = max(now, self._next_request_at) + MIN_INTERVAL_SECONDS
        self._deadline.restart(MAX_RESPONSE_SECONDS)
        try:
            response = self._pool.request(
                "GET",
                conf.api_url + path,
                fields={name: str(value) for name, value in parameters.items()},
                headers={
                    "Accept": "application/json",
                    "Authorization": f"Bearer {conf.api_key}",
                    "User-Agent": "cellcast-django",
                },
                preload_content=False,
                redirect=False,  # the key goes only to the address in the settings
            )
            body = _read(response)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError(
                f"Cellcast's API could not be reached ({type(error).__name__}).", 0.0
            ) from None
        return read_data(response.status, body, response.headers.get("Retry-After", ""))


def _read(response: "urllib3.BaseHTTPResponse") -> bytes:
    """Return the body as it came: a few compressed bytes could become gigabytes.

    Raises ``RecoveryError`` if it is too large.
    """
    body = bytearray()
    while chunk := response.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            response.close()
            raise RecoveryError(
                f"Cellcast's API responded with more than {MAX_RESPONSE_BYTES:,} bytes."
            )
    response.release_conn()
    return bytes(body)


def _connections_to(url: str, deadline: Deadline) -> "urllib3.PoolManager":
    """Return a pool of connections, through the proxy that ``HTTPS_PROXY`` names, if any.

    The proxy sees only the host's name. Plain HTTP, allowed to localhost only, needs no proxy.
    """
    parts = urlsplit(url)
    proxy = getproxies().get("https") if parts.scheme == "https" else None
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=MAX_RESPONSE_SECONDS)
    pool = urllib3.PoolManager(timeout=timeout, retries=False)
    if proxy and not proxy_bypass(parts.netloc):
        pool = urllib3.ProxyManager(proxy, timeout=timeout, retries=False)
    pool.pool_classes_by_scheme = {
        scheme: _timed(pool_class, deadline)
        for scheme, pool_class in pool.pool_classes_by_scheme.items()
    }
    return pool


def _timed(pool_class: Any, deadline: Deadline) -> Any:
    """Return a class of pools whose connections, and their TLS, all end by the deadline."""

    class Connection(pool_class.ConnectionCls):  # type: ignore[misc]
        sock: Any

        def _new_conn(self) -> Any:
            return TimedSocket(super()._new_conn(), deadline)

        def connect(self) -> None:
            super().connect()
            if not isinstance(self.sock, TimedSocket):  # TLS makes a socket of its own
                self.sock = TimedSocket(self.sock, deadline)

    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Connection})


# Reading a response


def read_data(status: int, body: bytes, retry_after: str = "") -> Item:
    """Return ``data`` of the response. Raises ``RecoveryError`` or ``TemporaryError``.

    A refusal may come as an HTTP status, as a code in the document, or as ``"status": false``.
    """
    document = read_object(body)
    code = status
    if code == HTTPStatus.OK:
        code = _code(document) or code
    detail = _detail(document)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        seconds = retry_after_seconds(retry_after)
        raise TemporaryError(f"Cellcast's API responded with {code}{detail}.", seconds)
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        error = WrongKeyError if code == HTTPStatus.UNAUTHORIZED else RecoveryError
        raise error(
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
    message = document.get("message")
    text = _printable(message) if isinstance(message, str) else ""
    return f": {text.rstrip('.')}" if text else ""


def _keys_of(document: Item) -> str:
    """Return the keys of an unexpected document, for a bug report."""
    return f"; it has {_printable(', '.join(sorted(document))) or 'nothing'}"


_LONG_NUMBER = re.compile(r"\+?\d[\d\W_]{4,}\d")  # whatever separates its digits


def _printable(text: str) -> str:
    """Return the beginning of the text on one line, without the key and without phone numbers."""
    text = text.replace(conf.api_key, "…")
    text = "".join(character if character.isprintable() else " " for character in text)
    return _LONG_NUMBER.sub("…", " ".join(text.split()))[:MAX_DETAIL_LENGTH]


def retry_after_seconds(header: str) -> float:
    """Return the seconds that ``Retry-After``, a count or a date, asks for: at most a minute."""
    try:
        return min(urllib3.Retry().parse_retry_after(header), MAX_RETRY_AFTER_SECONDS)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


# Reading an item


class ItemError(ValueError):
    """The item cannot be understood."""


EARLIEST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_TIME = datetime(3000, 1, 1, tzinfo=UTC)
"""Many languages write the year 1, 1900, 1970 or 9999 where they know no time."""


def as_body(item: Item) -> str:
    """Return the item as JSON that every database can store."""
    return clean(json.dumps(item, ensure_ascii=False))


def read_text(item: Item, name: str, *, limit: int | None = None) -> str:
    """Return a string or an integer as text; ``""`` if it is missing. Raises ``ItemError``."""
    value = item.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ItemError
    text = clean(str(value))
    if limit is not None and len(text) > limit:
        raise ItemError
    return text


def read_time(item: Item, name: str) -> datetime:
    """Return a time as the models store it; without a zone it is UTC. Raises ``ItemError``."""
    try:
        time = datetime.fromisoformat(read_text(item, name))
        time = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ItemError from None
    if not EARLIEST_TIME <= time < LATEST_TIME:
        raise ItemError
    return time
