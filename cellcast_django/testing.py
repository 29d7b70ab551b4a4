"""For host projects' tests: payloads as Cellcast sends them, and a client to send them."""

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.test import Client
from django.urls import reverse

from cellcast_django.conf import conf

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response


PICTURE = "https://media.example.com/1.jpg"


def reply_payload(**changes: Any) -> dict[str, Any]:
    """Return the documented payload of a customer's reply, with ``changes`` to its keys."""
    return {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "receive",
        "message": "This is reply message",
        "sender": "+61400000000",
        "receiver": "+61400000001",
    } | changes


def mms_payload(
    *, message: str = "Here is the form", media: Sequence[str] = (PICTURE,), **changes: Any
) -> dict[str, Any]:
    """Return the payload of an MMS reply, as the platform behind Cellcast documents it.

    The text is JSON inside a string, with the media beside it once more. With an empty ``message``
    it is a picture alone.
    """
    urls = [{"url": url} for url in media]
    text = json.dumps({"message": message, "media": urls}, separators=(",", ":"))
    return reply_payload(**{"message": text, "media": urls, "mms": True} | changes)


def status_payload(**changes: Any) -> dict[str, Any]:
    """Return the documented payload of a delivery report, with ``changes`` to its keys.

    A failure may have a ``reason``: ``status_payload(status="failed", reason="no such number")``.
    """
    return {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "send",
        "sender": "cellcast",
        "receiver": "+61400000001",
    } | changes


def opt_out_payload(**changes: Any) -> dict[str, Any]:
    """Return an opt-out as it has been seen on live accounts, with ``changes`` to its keys."""
    return {"type": "optout", "contact": "404000000"} | changes


class WebhookClient(Client):
    """A Django test client that sends webhooks with the first configured credential.

    Without a configured credential it sends no ``Authorization`` header and gets a 401.
    """

    def reply(self, **changes: Any) -> "Response":
        """Send a customer's reply to the Receive URL."""
        return self.send("webhook-receiver", reply_payload(**changes))

    def status(self, **changes: Any) -> "Response":
        """Send a delivery report to the Status URL."""
        return self.send("webhook-status", status_payload(**changes))

    def opt_out(self, **changes: Any) -> "Response":
        """Send an opt-out to the Opt-Out URL."""
        return self.send("webhook-opt-out", opt_out_payload(**changes))

    def send(
        self, url_name: str, payload: Any, content_type: str = "application/json"
    ) -> "Response":
        """Send any payload to one of the URLs: bytes unchanged, everything else as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.post(
            reverse(f"cellcast_django:{url_name}"),
            body,
            content_type=content_type,
            headers=authorization(),
        )


def authorization() -> dict[str, str]:
    """Return the ``Authorization`` header for the first configured credential."""
    if not conf.webhook_secrets:
        return {}
    encoded = base64.b64encode(conf.webhook_secrets[0].encode()).decode()
    return {"Authorization": f"Basic {encoded}"}
