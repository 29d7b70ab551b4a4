"""The opt-outs that begin in one transaction, decided under the locks on the contacts' rows."""

from collections.abc import Iterable
from datetime import datetime

from cellcast_django.models import OptOut as StoredOptOut, WebhookEvent, contact_of
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import Endpoint, OptOut, Payload, Reply


def opt_out_contact(payload: Payload) -> str:
    """Return the contact that the payload opts out if it is new; ``""`` if it opts out nobody."""
    if isinstance(payload, OptOut):
        return contact_of(payload.number)
    if isinstance(payload, Reply) and payload.sender.strip() and is_stop_word(payload.body):
        return contact_of(payload.sender)
    return ""


class OptOuts:
    """The opt-outs that a transaction has locked, and those that begin in it."""

    def __init__(self, using: str) -> None:
        self.objects = StoredOptOut.objects.using(using)
        self.locked: dict[str, StoredOptOut] = {}
        self.begun: list[StoredOptOut] = []

    def lock(self, payloads: Iterable[Payload]) -> None:
        """Lock the opt-outs of everybody the payloads opt out; call it after all other locks.

        Pass only payloads that report something new: each row made here has to begin.
        """
        contacts = set(map(opt_out_contact, payloads)) - {""}
        if contacts:
            self.locked = self.objects.lock(contacts)

    def begin(self, event: WebhookEvent, *, since: datetime) -> bool:
        """Begin the opt-out of the event's contact; return whether that is a change."""
        if not self.locked[event.contact].begin(_source_of(event), since=since, event=event):
            return False
        self.begun.append(self.locked[event.contact])
        return True

    def save(self) -> None:
        """Write the opt-outs that began; their events must have been saved."""
        self.objects.bulk_update(self.begun, ["source", "since", "event", "ended_at"])


def _source_of(event: WebhookEvent) -> StoredOptOut.Source:
    if event.kind == WebhookEvent.Kind.REPLY:
        return StoredOptOut.Source.REPLY
    is_listed = event.endpoint == Endpoint.API
    return StoredOptOut.Source.LIST if is_listed else StoredOptOut.Source.WEBHOOK
