"""The webhook URLs, one row each. Everything that goes through each URL goes through these.

To take another webhook: its ``Endpoint`` with a reader (``payloads``), its row here, and the
migration for the new choice.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from cellcast_django.connected import SENDERS, handlers_by_name
from cellcast_django.payloads import KEYS, Endpoint, opt_out_payload, reply_payload, status_payload
from cellcast_django.signals import FactSignal, message_received, opt_out_received, status_changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A URL for Cellcast's dashboard."""

    endpoint: Endpoint
    """Knows its label, and how what comes there is read."""
    url_name: str
    """Its name in the namespace ``cellcast_django``, and its path below the host's prefix."""
    takes: Promise
    example: Mapping[str, Any]
    """The documented payload."""
    news: str
    """The key of the example that has to change for it to be no duplicate."""
    signal: FactSignal
    """Sent for the example."""

    @property
    def label(self) -> str:
        """How Cellcast's dashboard names it."""
        return str(self.endpoint.label)

    @property
    def body(self) -> bytes:
        """The example, as it is sent."""
        return json.dumps(self.example).encode()

    def path(self) -> str:
        """Return its path in the project's URLs. Raises ``NoReverseMatch``."""
        return reverse(f"cellcast_django:{self.url_name}")

    def url(self, base_url: str) -> str:
        """Return the URL to paste into the dashboard. Raises ``NoReverseMatch``."""
        return base_url.rstrip("/") + self.path()

    def handlers(self) -> list[str]:
        """Return the names of the handlers that are called for the example."""
        return list(handlers_by_name(self.signal, SENDERS[self.signal]))


WEBHOOKS = (
    Webhook(
        endpoint=Endpoint.RECEIVE,
        url_name="webhook-receiver",
        takes=_("replies"),
        example=reply_payload(),
        news="message",
        signal=message_received,
    ),
    Webhook(
        endpoint=Endpoint.STATUS,
        url_name="webhook-status",
        takes=_("delivery reports"),
        example=status_payload(),
        news="_id",
        signal=status_changed,
    ),
    Webhook(
        endpoint=Endpoint.OPT_OUT,
        url_name="webhook-opt-out",
        takes=_("opt-outs"),
        example=opt_out_payload(),
        news="contact",
        signal=opt_out_received,
    ),
)


def problem_of_keys(keys: Iterable[str]) -> str:
    """Return a sentence about the first key that Cellcast does not send; ``""`` if it sends all."""
    for key in keys:
        if key not in KEYS:
            problem = f'This app reads no key "{key}".'
            similar = get_close_matches(key, KEYS - {"mms"}, 1)  # "msg" means "message"
            return f'{problem} Did you mean "{similar[0]}"?' if similar else problem
    return ""
