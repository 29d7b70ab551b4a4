"""For host projects' tests: payloads as Cellcast sends them, and a client to send them."""

import base64
import json
from typing import TYPE_CHECKING, Any

from django.test import Client
from django.urls import reverse

from cellcast_django.conf import conf
from cellcast_django.payloads import mms_payload, opt_out_payload, reply_payload, status_payload

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

__all__ = [
    "WebhookClient",
    "authorization",
    "mms_payload",
    "opt_out_payload",
    "reply_payload",
    "status_payload",
]


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
