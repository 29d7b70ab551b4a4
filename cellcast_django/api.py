"""Cellcast's HTTP API: the one client for it, and ``send_sms``, which sends an SMS with it.

The API key goes into the ``Authorization`` header and nowhere else: into no error, and into no
variable of a frame, which error trackers report.
"""

import json
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.error_reports import hides_variables
from cellcast_django.payloads import MAX_ID_LENGTH, read_object

try:
    import urllib3
except ImportError:  # without the extra, everything except recovery and send_sms works
    urllib3 = None  # type: ignore[assignment]

CONNECT_TIMEOUT_SECONDS = 5.0
SEND_SECONDS = 20.0  # for each read, and for the whole body: a person may be waiting
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_RESPONSE_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 65_536
MAX_SENTENCE_LENGTH = 200
SHARED_NUMBER = "#SharedNum#"  # one of Cellcast's, which customers can answer

Item = dict[str, Any]


class NotSentError(Exception):
    """The SMS was certainly not sent; ``reason`` says why, for a person to read.

    The function that ``CELLCAST_SEND_WITH`` names raises it. It may be sent again.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason or "no reason was given."
        super().__init__(self.reason)


class OptedOutError(Exception):
    """The contact has opted out, so nothing was sent.

    The function that ``CELLCAST_SEND_WITH`` names raises it for a contact whom Cellcast knows as
    opted out, with what Cellcast said as the ``reason``.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "The contact has opted out, so nothing was sent.")
        self.reason = reason


class ApiError(Exception):
    """The API gave no response that can be used, so what was asked may have been done."""


class NoConnectionError(ApiError):
    """There was no connection to the API, so it was not asked."""


@hides_variables
def send_sms(
    receiver: str, body: str, sender: str = "", *, reference: str = "", reply_stop: bool = False
) -> str:
    """Send an SMS, and return Cellcast's id. For ``CELLCAST_SEND_WITH``; never retries.

    ``sender`` is a number or name of yours; ``""`` is the shared number. A ``reference`` of ASCII
    letters, digits and dashes becomes Cellcast's ``customString``. With ``reply_stop``, Cellcast
    adds *Reply STOP to optout* to the text.

    Raises ``NotSentError`` if Cellcast has refused, was not reached, or could not be asked, and
    ``OptedOutError`` if it calls the number unsubscribed. After any other error the SMS may have
    gone: Cellcast has been seen to deliver what it answered with a 500.
    """
    if reason := why_not():
        raise NotSentError(reason)
    sms: Item = {"message": body, "contacts": [receiver], "sender": sender or SHARED_NUMBER}
    if re.fullmatch(r"[A-Za-z0-9-]+", reference):
        sms["customString"] = reference
    if reply_stop:
        sms["replyStopToOptOut"] = True
    with ApiClient(SEND_SECONDS) as client:
        try:
            response = client.request("POST", "/api/v1/gateway", document=sms)
        except NoConnectionError as error:
            raise NotSentError(str(error)) from None
    return _sent_id(response, receiver)


def _sent_id(response: "ApiResponse", receiver: str) -> str:
    """Return the id of what was sent to one contact. Raises as ``send_sms`` does."""
    ids = [_id_of(each) for each in response.entries("queueResponse")]
    cellcast_id = next(filter(None, ids), "")
    if cellcast_id and response.is_success:
        return cellcast_id
    # An id beside a refusal: it has been queued all the same. Neither id nor reason: unknown.
    has_queued_none = not cellcast_id and (response.is_success or response.is_refusal)
    if has_queued_none and response.entries("unsubscribeContacts"):
        raise OptedOutError("Cellcast lists the number among its unsubscribeContacts.")
    if has_queued_none and response.is_refusal:
        sentence = quotable(response.sentence, receiver)
        raise NotSentError(sentence or f"Cellcast's API refused it with {response.status}.")
    if has_queued_none and (invalid := response.entries("invalidContacts")):
        problem = invalid[0].get("Error") if isinstance(invalid[0], dict) else None
        sentence = quotable(problem, receiver) if isinstance(problem, str) else ""
        raise NotSentError(sentence or "Cellcast calls the number invalid.")
    raise ApiError(f"Cellcast's API responded with {response.status} and no id of a sent message.")


def _id_of(queued: object) -> str:
    """Return the id of a queued message; ``""`` if it has none that can be stored."""
    value = queued.get("MessageId") if isinstance(queued, dict) else None
    text = str(value).strip() if type(value) in (str, int) else ""
    return text if len(text) <= MAX_ID_LENGTH else ""


def read_credit(client: "ApiClient") -> Item | None:
    """Return the credits ``sms`` and ``mms``, and ``read_at``; ``None`` if they cannot be read."""
    try:
        response = client.request("GET", "/api/v1/apiClient/account")
    except ApiError:
        return None
    data = response.data if response.is_success else {}
    sms, mms = _credits(data.get("sms_balance")), _credits(data.get("mms_balance"))
    if sms is None:
        return None
    return {"sms": sms, "mms": mms, "read_at": timezone.now().isoformat()}


def _credits(value: object) -> int | None:
    try:
        return int(float(str(value)))  # a text: "12.50" is a number, True is none
    except (ValueError, OverflowError):
        return None


def why_not() -> str:
    """Return why the API cannot be asked at all, and what to do; ``""`` if it can."""
    if urllib3 is None:
        return 'urllib3 is not installed: run pip install "cellcast-django[api]".'
    if not conf.api_key:
        return "CELLCAST_API_KEY is not set, or is not a valid key."
    if not conf.api_url:
        return "CELLCAST_API_URL is not an https:// URL, so the key is not sent there."
    return ""


class ApiClient:
    """A client for the API at ``CELLCAST_API_URL``, to be used as a context manager.

    Each read may take so many ``seconds``, and so may the whole body, however slowly it comes.
    ``why_not`` must have been asked.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_connected = False
        self._pool: urllib3.PoolManager | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._pool is not None:
            self._pool.clear()

    @hides_variables
    def request(
        self,
        method: str,
        path: str,
        parameters: dict[str, str | int] | None = None,
        document: Item | None = None,
    ) -> "ApiResponse":
        """Send one request. Raises ``ApiError``; ``NoConnectionError`` only if nothing was sent."""
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {conf.api_key}",
            "User-Agent": "cellcast-django",
        }
        if document is not None:
            headers["Content-Type"] = "application/json"
        until = time.monotonic() + self._seconds
        try:
            self._pool = self._pool or self._connect()
            response = self._pool.request(
                method,
                conf.api_url + path,
                fields=parameters,  # type: ignore[arg-type]  # numbers too
                body=None if document is None else json.dumps(document),
                headers=headers,
                preload_content=False,
                redirect=False,  # the key goes only to the address in the settings
            )
            content = _read(response, until)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            kind = type(error).__name__  # the text may quote the proxy's URL with its password
            if tunnel := re.search(r"Tunnel connection failed: (\d{3})", str(error)):
                kind = f"the proxy responded with {tunnel[1]}"
            if self._has_connected:  # see ``_watched``: the request may have been sent
                raise ApiError(f"Cellcast's API gave no complete response ({kind}).") from None
            raise NoConnectionError(f"Cellcast's API could not be reached ({kind}).") from None
        seconds = _seconds_to_wait(response.headers.get("Retry-After", ""))
        return ApiResponse(response.status, read_object(content), seconds)

    def _connect(self) -> "urllib3.PoolManager":
        """Return a pool of connections, through the proxy that ``HTTPS_PROXY`` names, if any."""
        parts = urlsplit(conf.api_url)
        proxy = getproxies().get("https") if parts.scheme == "https" else None
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=self._seconds)
        pool: urllib3.PoolManager
        if proxy and not proxy_bypass(parts.netloc):
            # make_headers encodes as Latin-1, so this leaves the bytes as they are.
            name_and_password = unquote(urllib3.util.parse_url(proxy).auth or "", "latin-1")
            headers = urllib3.make_headers(proxy_basic_auth=name_and_password or None)
            pool = urllib3.ProxyManager(
                proxy, timeout=timeout, retries=False, proxy_headers=headers
            )
        else:
            pool = urllib3.PoolManager(timeout=timeout, retries=False)
        pool.pool_classes_by_scheme = {  # so that ``request`` knows whether one was made
            scheme: self._watched(each) for scheme, each in pool.pool_classes_by_scheme.items()
        }
        return pool

    def _watched(self, pool_class: Any) -> Any:
        """Return the class, but with connections that note it when they have been made."""
        client = self  # urllib3's exceptions do not tell: TLS may fail after the request, too

        class Connection(pool_class.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                client._has_connected = True

        return type(pool_class.__name__, (pool_class,), {"ConnectionCls": Connection})


def _read(response: "urllib3.BaseHTTPResponse", until: float) -> bytes:
    """Return the body as it came, not decompressed: a few bytes could become gigabytes."""
    body = bytearray()
    while chunk := response.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES or time.monotonic() > until:
            response.close()
            raise ApiError(
                f"Cellcast's API responded with more than {MAX_RESPONSE_BYTES:,} bytes, or too "
                "slowly."
            )
    response.release_conn()
    return bytes(body)


@dataclass(frozen=True, slots=True, repr=False)
class ApiResponse:
    """A response; the document is ``{}`` if the body is no JSON object."""

    status: int
    document: Item
    retry_after: float
    """The seconds that ``Retry-After`` asks for, at most a minute."""

    @property
    def is_success(self) -> bool:
        return self.status // 100 == 2 and self.document.get("status") is not False

    @property
    def is_refusal(self) -> bool:
        """Whether the API has certainly done nothing."""
        if self.status // 100 == 4:  # a 408 or 499 is a proxy's, which has stopped waiting
            return self.status not in (HTTPStatus.REQUEST_TIMEOUT, 499)
        is_fault = "internal server error" in str(self.document).casefold()  # a 500 inside a 200
        return self.status // 100 == 2 and not self.is_success and not is_fault

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or self.status >= 500

    @property
    def data(self) -> Item:
        data = self.document.get("data")
        return data if isinstance(data, dict) else {}

    def entries(self, name: str) -> list[Any]:
        found = self.data.get(name)
        return found if isinstance(found, list) else []

    @property
    def sentence(self) -> str:
        """What Cellcast says about a refusal, as it came: see ``quotable``."""
        error = self.document.get("error")
        said = error.get("errorMessage") if isinstance(error, dict) else None
        said = said or self.document.get("message")
        return said if isinstance(said, str) else ""


def _seconds_to_wait(header: str) -> float:
    """Return the seconds that ``Retry-After``, a count or a date, asks for."""
    try:
        return min(urllib3.Retry().parse_retry_after(header), MAX_RETRY_AFTER_SECONDS)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


_LONG_NUMBER = re.compile(r"\+?\d[\d\W_]{4,}\d")  # whatever separates its digits


def quotable(text: str, number: str = "") -> str:
    """Return the beginning of the text on one line, without the key and without phone numbers."""
    text = text[:10_000]  # it may be 16 MB long
    for secret in filter(None, (conf.api_key, number)):
        text = text.replace(secret, "…")
    text = "".join(character if character.isprintable() else " " for character in text)
    return _LONG_NUMBER.sub("…", " ".join(text.split()))[:MAX_SENTENCE_LENGTH]
