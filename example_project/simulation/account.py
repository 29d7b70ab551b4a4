"""Cellcast beside the demo's server: what the admin sends goes there, and customers reply."""

import json
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from threading import Event, Thread

from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.diagnostics.test_send import post_as_cellcast
from cellcast_django.models import Message
from cellcast_django.payloads import Endpoint
from cellcast_django.simulator import FATES, Item, Simulator, Sms, as_listed, listed_report
from cellcast_django.webhooks import WEBHOOKS
from example_project.simulation import console


class Account(Simulator):
    """The simulated account of the demo's site."""

    planned_at: datetime | None = None
    """Where its clock stands, while customers reply in the plan."""

    def __init__(self) -> None:
        super().__init__(deliver=self.deliver, now=lambda: self.planned_at or timezone.now())

    def list_sent(self, message: Message, status: str) -> None:
        """List what was sent in the plan, and not through this account."""
        sms = Sms(message.receiver, message.body, message.sender, "", message.cellcast_id)
        item = listed_report(message.created_at, sms.cellcast_id, status=status, message=sms.body)
        self.sent.append(sms)
        self._reports.append(item | {"sender": sms.sender, "receiver": as_listed(sms.receiver)})

    def deliver(self, endpoint: Endpoint, payload: Item) -> None:
        """Send a webhook, and print whether it was taken."""
        [url] = [each.url(conf.public_url) for each in WEBHOOKS if each.endpoint == endpoint]
        body, secret = json.dumps(payload).encode(), conf.webhook_secrets[0]
        response = post_as_cellcast(url, body, secret, timeout=15, is_test=False)
        tell = console.done if response.is_accepted else console.wrong
        is_report = endpoint == Endpoint.STATUS
        number = payload.get("contact") or payload["receiver" if is_report else "sender"]
        said = payload["status"] if is_report else payload.get("message", "")
        tell(f"{endpoint.label}: {number} {said}".rstrip())

    def listen(self) -> None:
        """Report what is sent, and let customers reply as is typed on a terminal, until Ctrl-C."""
        Thread(target=self._keep_reporting, daemon=True).start()
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background reading is an error
        with suppress(OSError):
            for line in sys.stdin if console.CAN_TYPE else ():
                self.obey(line.strip())
        Event().wait()

    def obey(self, line: str) -> None:
        """Let a customer reply; anything else that is typed asks for help."""
        number, _, text = line.partition(" ")
        if is_phone_number(number, "AU") and text:
            self.reply(number, text)
        elif line:
            console.line("A number and a text are a customer's reply. What becomes of an SMS:")
            for receiver, fate in FATES.items():
                console.line(f"  to {receiver}: {fate.description}")

    def _keep_reporting(self) -> None:
        shown = len(self.sent)
        while True:
            for sms in self.sent[shown:]:
                console.line(f"SMS to {sms.receiver}: {sms.body}")
                shown += 1
            self.send_reports()
            time.sleep(0.5)
