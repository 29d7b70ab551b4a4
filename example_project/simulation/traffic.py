"""Plays the plan: the project's code sends messages, and webhooks arrive over HTTP."""

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.diagnostics.test_send import post_as_cellcast
from cellcast_django.models import Message, OptOutChange
from cellcast_django.opt_outs import opt_in
from example_project.appointments.models import Appointment
from example_project.appointments.reminders import remind
from example_project.simulation import console
from example_project.simulation.plan import OptIn, Sending, Step, Webhook

PARALLEL_REQUESTS = 8


class DemoError(Exception):
    """The demo cannot continue; the text is for a person."""


class Traffic:
    """Plays steps, and records their rows, which are then given the plan's times."""

    def __init__(self) -> None:
        self.sent_at: dict[int, datetime] = {}
        """The plan's time of each message sent, by its id."""
        self.reported_at: dict[int, datetime] = {}
        """The plan's time of each event, by its id."""
        self.opted_in_at: dict[int, datetime] = {}
        """The plan's time of each end of an opt-out, by the id of its row."""
        self.outcomes: Counter[str] = Counter()

    def play(self, steps: list[Step]) -> None:
        """Play all steps. Raises ``DemoError``."""
        for position, step in enumerate(steps, start=1):
            if isinstance(step, Sending):
                self.sent_at[_send(step).pk] = step.at
            elif isinstance(step, OptIn):
                self.opted_in_at[_opt_in(step).pk] = step.at
            elif isinstance(step, Webhook):
                self.receive([step])
            else:
                self.receive(step.webhooks)
            console.progress(position, len(steps))

    def receive(self, webhooks: Iterable[Webhook]) -> list[int]:
        """Post webhooks, several at a time, and return the ids of their events."""
        webhooks = list(webhooks)
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as threads:
            responses = list(threads.map(self._post, webhooks))
        event_ids = []
        for webhook, response in zip(webhooks, responses, strict=True):
            for event in response.get("events", []):
                self.reported_at[event["id"]] = webhook.at
                self.outcomes[event["outcome"]] += 1
                event_ids.append(event["id"])
        return event_ids

    def _post(self, webhook: Webhook) -> dict[str, Any]:
        payload = webhook.payload
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        url = conf.public_url + reverse(f"cellcast_django:{webhook.url_name}")
        secret = conf.webhook_secrets[0] if webhook.with_password else "cellcast:a-guess"
        response = post_as_cellcast(url, body, secret, timeout=30, is_test=False)
        if response.status != webhook.expected_status:
            raise DemoError(f"A webhook got {response.status}, not {webhook.expected_status}.")
        return response.document


def _send(sending: Sending) -> Message:
    """Send as the project does, except that the id is from another time."""
    if sending.customer is None:
        return Message.objects.record_sent(
            sending.cellcast_id, receiver=sending.number, sender=sending.sender, body=sending.text
        )
    hour = 9 + Appointment.objects.count() % 8
    today = timezone.localtime(sending.at).replace(hour=hour, minute=0, second=0, microsecond=0)
    appointment = Appointment.objects.create(
        customer_name=sending.customer.name,
        phone_number=sending.number,
        starts_at=today + timedelta(days=3),
    )
    with mock.patch(settings.CELLCAST_SEND_WITH, return_value=sending.cellcast_id):
        return remind(appointment)


def _opt_in(step: OptIn) -> OptOutChange:
    opt_in(step.number, note=step.note, username=step.username)
    return OptOutChange.objects.latest("pk")


def reminder_id(number: str) -> str:
    """Return Cellcast's id of the reminder that was sent to this number."""
    appointment = Appointment.objects.get(phone_number=number)
    return Message.objects.with_reference(appointment.reference).get().cellcast_id
