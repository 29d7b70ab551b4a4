"""The opt-outs that begin in one transaction, decided under the locks on the contacts' rows."""

from collections.abc import Iterable

from cellcast_django.models import OptOut as StoredOptOut, OptOutChange, WebhookEvent, contact_of
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import Endpoint, OptOut, Payload, RecoveredReply, Reply


def opt_out_contact(payload: Payload) -> str:
    """Return the contact that the payload opts out; ``""`` if it opts out nobody."""
    if isinstance(payload, OptOut):
        return contact_of(payload.number)
    if isinstance(payload, Reply) and payload.sender.strip() and is_stop_word(payload.body):
        return contact_of(payload.sender)
    return ""


class OptOuts:
    """The opt-outs that a transaction has locked, and the changes that it makes to them."""

    def __init__(self, using: str, *, have_just_arrived: bool) -> None:
        self.objects = StoredOptOut.objects.using(using)
        self.have_just_arrived = have_just_arrived
        self.locked: dict[str, StoredOptOut] = {}
        self.changes: list[OptOutChange] = []

    def insert_and_lock(self, payloads: Iterable[Payload]) -> None:
        """Lock the opt-outs of everybody the payloads opt out; call it after all other locks."""
        contacts = set(map(opt_out_contact, payloads)) - {""}
        if contacts:
            self.locked = self.objects.insert_and_lock(contacts)

    def begin(self, event: WebhookEvent, payload: Payload) -> bool:
        """Begin the opt-out that the payload asks for, if any; return whether it did not stand."""
        if not (contact := opt_out_contact(payload)):
            return False
        at = event.received_at
        if isinstance(payload, RecoveredReply):
            at = min(at, payload.received_at)
        change = self.locked[contact].begin(
            _source_of(event),
            at=at,
            has_just_arrived=self.have_just_arrived,
            event=event,
            text=payload.body if isinstance(payload, Reply) else payload.raw,
        )
        if change is not None:
            self.changes.append(change)
        return change is not None

    def save(self) -> None:
        """Write the changes; their events must have been saved."""
        if self.changes:
            self.objects.save_changes(self.changes)


def _source_of(event: WebhookEvent) -> StoredOptOut.Source:
    if event.kind == WebhookEvent.Kind.REPLY:
        return StoredOptOut.Source.REPLY
    is_listed = event.endpoint == Endpoint.API
    return StoredOptOut.Source.LIST if is_listed else StoredOptOut.Source.WEBHOOK
