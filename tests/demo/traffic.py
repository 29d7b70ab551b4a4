"""Makes the plan happen: messages are sent by the project's code, webhooks come in over HTTP."""

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from http.client import HTTPConnection
from typing import Any

from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.testing import authorization
from example_project.appointments.models import Appointment
from example_project.appointments.reminders import SENDER, remind
from tests.demo import console
from tests.demo.plan import Sending, Step, Webhook
from tests.demo.server import HOST

PARALLEL_REQUESTS = 8


class DemoError(Exception):
    """The demo cannot go on; its text is for a person to read."""


class Traffic:
    """Plays steps, and notes what came of them, so that the rows can be given the plan's times."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent_at: dict[int, datetime] = {}
        """The plan's time of each message that was sent, by its id."""
        self.told_at: dict[int, datetime] = {}
        """The plan's time of each event, by its id."""
        self.outcomes: Counter[str] = Counter()

    def play(self, steps: list[Step]) -> None:
        """Let all the steps happen. Raises ``DemoError``."""
        for position, step in enumerate(steps, start=1):
            if isinstance(step, Sending):
                self.sent_at[_send(step).pk] = step.at
            elif isinstance(step, Webhook):
                self.receive([step])
            else:
                self.receive(step.webhooks)
            console.progress(position, len(steps))

    def receive(self, webhooks: Iterable[Webhook]) -> list[int]:
        """Post webhooks, several at a time, and return the ids of their events."""
        webhooks = list(webhooks)
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as threads:
            answers = list(threads.map(self._post, webhooks))
        event_ids = []
        for webhook, answer in zip(webhooks, answers, strict=True):
            for event in answer.get("events", []):
                self.told_at[event["id"]] = webhook.at
                self.outcomes[event["outcome"]] += 1
                event_ids.append(event["id"])
        return event_ids

    def _post(self, webhook: Webhook) -> dict[str, Any]:
        payload = webhook.payload
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        headers = {"Content-Type": "application/json"}
        if webhook.with_password:
            headers |= authorization()
        connection = HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(
                "POST", reverse(f"cellcast_django:{webhook.url_name}"), body, headers
            )
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != webhook.answer:
            raise DemoError(f"A webhook was answered {response.status}, not {webhook.answer}.")
        answer: dict[str, Any] = json.loads(body)
        return answer


def _send(sending: Sending) -> Message:
    """Send as the project does, but for the id, which is of another time."""
    if sending.customer is None:
        return Message.objects.record_sent(
            sending.cellcast_id, receiver=sending.number, sender=SENDER, body=sending.text
        )
    hour = 9 + Appointment.objects.count() % 8
    today = timezone.localtime(sending.at).replace(hour=hour, minute=0, second=0, microsecond=0)
    appointment = Appointment.objects.create(
        customer_name=sending.customer.name,
        phone_number=sending.number,
        starts_at=today + timedelta(days=3),
    )
    return remind(appointment, send=lambda _receiver, _text: sending.cellcast_id)
