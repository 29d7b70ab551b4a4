"""Reads the lists of Cellcast's API, which come in pages: paths go in, pages of items come out."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from cellcast_django.api import (
    ApiClient,
    ApiError,
    ApiResponse,
    Item,
    quotable,
    read_credit,
    why_not,
)
from cellcast_django.error_reports import hides_variables
from cellcast_django.payloads import clean

PAUSE_SECONDS = 0.1  # before each request: at most ten a second

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a request is sent again, unless ``Retry-After`` asks for more."""

MAX_RESPONSE_SECONDS = 60.0  # from the request to the last byte, however slowly they come
MAX_PAGES = 20_000

TELLING_COUNT = 5
"""If webhooks brought so many, and the list has none of them, it is another account's."""


class ApiList(TextChoices):
    """The three lists of the API."""

    REPLIES = "replies", _("Replies")
    STATUSES = "statuses", _("Delivery reports")
    OPT_OUTS = "opt-outs", _("Opt-outs")


@dataclass(slots=True)
class Findings:
    """The results of reading one list."""

    kind: ApiList
    seen: int = 0
    """Items read from the list."""
    missing: int = 0
    """Items that were not in the database."""
    stored: int = 0
    """Missing items that are stored now; the others arrived by webhook in the meantime."""
    waiting: int = 0
    """Replies so recent that their webhook may still be on its way."""
    invalid: int = 0
    """Items that could not be understood."""
    not_listed: int = 0
    """Active opt-outs here that Cellcast does not list."""
    ended: int = 0
    """Opt-outs that were ended here but that Cellcast lists."""
    texts: int = 0
    """Messages whose text only the list has said."""
    webhooks: int = 0
    """Messages of which webhooks have brought such a thing in that time."""
    webhooks_listed: int = 0
    """Those of them that the list has."""
    error: str = ""
    """Why the list could not be read to its end."""

    @property
    def is_read(self) -> bool:
        """Whether it was read, if only in part."""
        return not self.error or self.seen + self.invalid > 0

    @property
    def knows_no_webhook(self) -> bool:
        """Whether it has none of what webhooks brought: it may be that of another account."""
        return not self.error and self.webhooks >= TELLING_COUNT and not self.webhooks_listed

    def summary(self) -> dict[str, Any]:
        """Return what to keep of the run: no text of Cellcast's."""
        return asdict(self) | {"error": bool(self.error), "is_read": self.is_read}


class RecoveryError(Exception):
    """The API cannot be asked, or understood; the text tells a person what to do."""

    def __init__(self, text: str, *, is_of_list: bool = False) -> None:
        """With ``is_of_list``, the API has answered, and may give other lists all the same."""
        super().__init__(text)
        self.is_of_list = is_of_list


class Client(ApiClient):
    """A client for the lists. Raises ``RecoveryError`` for the reasons of ``why_not``."""

    def __init__(self) -> None:
        if reason := why_not():
            raise RecoveryError(reason)
        super().__init__(MAX_RESPONSE_SECONDS)
        self._refusal_of_key: RecoveryError | None = None
        """After that, nothing is asked any more."""

    def pages(self, path: str, **parameters: str | int) -> Iterator[list[Any]]:
        """Yield the items of each page; an item may come twice. Raises ``RecoveryError``."""
        previous: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            response = self._get(path, parameters | {"page": page})
            items = response.data.get("items")
            if not isinstance(items, list):
                keys = quotable(", ".join(sorted(response.document | response.data)))
                raise RecoveryError(
                    "Cellcast's API responded without a list of items; it has "
                    f"{keys or 'nothing'}.",
                    is_of_list=True,
                )
            if not items or items == previous:  # past the end, some APIs repeat the last page
                return
            yield items
            total = response.data.get("totalPages")
            if isinstance(total, int) and 0 < total <= page:
                return
            previous = items
        raise RecoveryError(f"Stopped after {MAX_PAGES:,} pages of {path}, which does not end.")

    def credit(self) -> Item | None:
        """Return the account's credit; ``None`` if it cannot be read. Asks once."""
        time.sleep(PAUSE_SECONDS)
        return None if self._refusal_of_key else read_credit(self)

    @hides_variables
    def _get(self, path: str, parameters: dict[str, str | int]) -> ApiResponse:
        """Return a successful response, after retries if they may help."""
        if self._refusal_of_key:
            raise self._refusal_of_key
        problem, retry_after = "", 0.0
        for pause in (PAUSE_SECONDS, *RETRY_PAUSES):
            time.sleep(max(pause, retry_after))
            try:
                response = self.request("GET", path, parameters)
            except ApiError as error:
                problem, retry_after = str(error), 0.0
                continue
            if response.is_success:
                return response
            problem, retry_after = _description_of(response), response.retry_after
            if response.status == HTTPStatus.UNAUTHORIZED:
                self._refusal_of_key = RecoveryError(problem)
                raise self._refusal_of_key
            if not response.is_temporary:
                raise RecoveryError(problem, is_of_list=True)
        raise RecoveryError(f"{problem} Gave up after {len(RETRY_PAUSES) + 1} attempts.")


def _description_of(response: ApiResponse) -> str:
    """Return what the API said when it refused or failed, and what to do if it is the key."""
    sentence = quotable(response.sentence).rstrip(".")
    said = "refused it" if response.status // 100 == 2 else f"responded with {response.status}"
    about_key = (
        " Check CELLCAST_API_KEY, and CELLCAST_API_URL: accounts outside Australia have another "
        "host."
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        else ""
    )
    return f"Cellcast's API {said}{': ' if sentence else ''}{sentence}.{about_key}"


class ItemError(ValueError):
    """The item cannot be understood."""


EARLIEST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_TIME = datetime(3000, 1, 1, tzinfo=UTC)
"""Many languages write the year 1, 1900, 1970 or 9999 where they know no time."""


def as_body(item: Item) -> str:
    """Return the item as JSON that every database can store."""
    return clean(json.dumps(item, ensure_ascii=False))


def read_text(item: Item, name: str) -> str:
    """Return a string or an integer as text; ``""`` if it is missing. Raises ``ItemError``."""
    value = item.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ItemError
    return clean(str(value))


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
