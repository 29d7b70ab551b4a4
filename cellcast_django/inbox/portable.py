"""The portable way to store a webhook: any number of events, on every database, with the ORM.

Start with ``write``.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import connections

from cellcast_django.database.transactions import insert_and_lock, own_transaction
from cellcast_django.inbox import same_message
from cellcast_django.inbox.calls import Stored, insert_calls
from cellcast_django.inbox.drafts import (
    Decision,
    Draft,
    Found,
    StatusDraft,
    attach_facts,
    begin_opt_out,
    decide,
    row_of,
)
from cellcast_django.models import (
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import supersedes

BeforeCommit = Callable[[list[int]], None]
"""Called in the transaction, with the ids of the events that have something to run."""


class NoLongerInvalidError(Exception):
    """Another process has processed the event in the meantime."""


@dataclass(slots=True, repr=False)
class Row:
    """A locked message, and the statuses in its history."""

    message: Message
    reported: set[str]
    is_new: bool
    """It was inserted just now, with the status of its first report."""
    changed: set[str] = field(default_factory=set)
    """The names of the fields to save."""

    @property
    def status(self) -> str:
        """The status so far; ``""`` before the first report of a new message."""
        return "" if self.is_new and not self.reported else self.message.status


def write(
    using: str,
    drafts: Sequence[Draft],
    *,
    replaced: WebhookEvent | None = None,
    before_commit: BeforeCommit | None = None,
) -> Stored:
    """Write everything in one transaction of its own, and return the events in the drafts' order.

    It locks the messages in the order of their keys, then the opt-outs in that of their contacts,
    and makes every decision under these locks. The first event takes the place of ``replaced``, an
    invalid one. Raises ``NoLongerInvalidError`` if that one is not invalid any more.
    """
    reports = [each for each in drafts if isinstance(each, StatusDraft)]
    with own_transaction(using):
        same_message.lock_out_others(using, reports)
        rows = _insert_and_lock_messages(using, reports)
        _use_messages_stored_before(using, reports, rows)
        contacts = {each.contact_to_opt_out for each in drafts} - {""}
        opt_outs = OptOut.objects.using(using).insert_and_lock(contacts)

        decided = [_apply(each, rows, opt_outs) for each in drafts]
        events = [event for event, _, _, _ in decided]
        changes = [change for _, _, change, _ in decided if change is not None]
        begun = [change for _, _, _, change in decided if change is not None]

        _insert_events(using, events, replaced)
        stored = [(event, decision.signals) for event, decision, _, _ in decided]
        calls = insert_calls(connections[using], stored, drafts[0].arrival.now)
        StatusChange.objects.using(using).bulk_create(changes)
        _update_messages(using, rows.values())
        OptOut.objects.using(using).save_changes(begun)
        due = list(dict.fromkeys(call.event_id for call in calls))
        if before_commit is not None and due:
            before_commit(due)
    return Stored(events, calls)


# Lock


def _insert_and_lock_messages(using: str, drafts: Sequence[StatusDraft]) -> dict[str, Row]:
    """Return the messages by key; what the first draft of a message says is inserted."""
    first = {
        each.message_values["key"]: row_of(Message, each.message_values)
        for each in reversed(drafts)
    }
    if not first:
        return {}
    messages = insert_and_lock(Message.objects.using(using), first.values(), unique="key")
    reported = defaultdict(set)
    history = StatusChange.objects.using(using).filter(message__in=messages.values())
    for message_id, status in history.values_list("message_id", "status"):
        reported[message_id].add(status)
    rows = {}
    for key, message in messages.items():
        statuses = reported[message.pk]
        is_new = not statuses and message.status == first[key].status
        rows[key] = Row(message, statuses, is_new)
    return rows


def _use_messages_stored_before(
    using: str, drafts: Sequence[StatusDraft], rows: dict[str, Row]
) -> None:
    """Replace the rows of replies that look new, but were stored as another message before."""
    new = {
        each.message_values["key"]: each
        for each in reversed(drafts)
        if each.may_be_stored and rows[each.message_values["key"]].is_new
    }
    inserted = {key: rows[key].message for key in new}
    for key, other in same_message.unite(using, new.values(), inserted).items():
        rows[key] = Row(other, {new[key].payload.status}, is_new=False)


# Apply


def _apply(
    draft: Draft, rows: Mapping[str, Row], opt_outs: Mapping[str, OptOut]
) -> tuple[WebhookEvent, Decision, StatusChange | None, OptOutChange | None]:
    """Return the event, what becomes of it, and what its history and its opt-out gain."""
    message = change = begun = None
    if isinstance(draft, StatusDraft):
        row = rows[draft.message_values["key"]]
        message, change = row.message, _apply_to_message(draft, row)
    if draft.contact_to_opt_out:
        begun = begin_opt_out(draft, opt_outs[draft.contact_to_opt_out])
    previous_status = "" if change is None else change.previous_status
    found = Found(previous_status=previous_status, is_news=change is not None)
    decision = decide(draft, found, begun)
    event = row_of(WebhookEvent, draft.event_values | {"outcome": decision.outcome})
    attach_facts(event, message, change, begun)
    return event, decision, change, begun


def _apply_to_message(draft: StatusDraft, row: Row) -> StatusChange | None:
    """Move the message and fill it in; return the row that its history gains, if any."""
    message, change = row.message, row_of(StatusChange, draft.change_values)
    row.changed.update(message.fill_in_from(row_of(Message, draft.message_values)))
    if change.status in row.reported:
        return None
    change.previous_status = row.status
    change.applied = supersedes(change.status, row.status)
    if change.applied and message.status != change.status:
        message.status, message.status_changed_at = change.status, change.recorded_at
        row.changed.update({"status", "status_changed_at"})
    row.reported.add(change.status)
    return change


# Write


def _insert_events(
    using: str, events: Sequence[WebhookEvent], replaced: WebhookEvent | None
) -> None:
    objects = WebhookEvent.objects.using(using)
    if replaced is not None:
        first, *events = events
        if first.outcome == WebhookEvent.Outcome.INVALID:
            first.dismissed_at = replaced.dismissed_at
        columns = [each.name for each in first._meta.concrete_fields if not each.primary_key]
        values = {name: getattr(first, name) for name in columns}
        invalid = objects.filter(pk=replaced.pk, outcome=WebhookEvent.Outcome.INVALID)
        if not invalid.update(**values):
            raise NoLongerInvalidError
        first.pk = replaced.pk
        first._state.adding = False
        first._state.db = using
    if connections[using].features.can_return_rows_from_bulk_insert:
        objects.bulk_create(events)
    else:  # SQLite before 3.35 returns no ids of several rows
        for event in events:
            event.save(using=using, force_insert=True)


def _update_messages(using: str, rows: Collection[Row]) -> None:
    changed = [row.message for row in rows if row.changed]
    names = sorted(set().union(*(row.changed for row in rows)))
    if changed:
        Message.objects.using(using).bulk_update(changed, names)
