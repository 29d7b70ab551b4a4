"""Columns as a list or a page shows them: what all of them need is looked up once."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from django.db.models import Min, Model
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.texts import own_number_html
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import HandlerCall, Message, WebhookEvent


class Columns:
    """Some rows of one model as one person sees them. Its methods are the columns of the list."""

    calls: Callable[[], Iterable[HandlerCall]]
    """Returns the calls that the rows are or have; of messages there is none."""

    def __init__(self, viewer: Viewer, rows: Sequence[Any], *, has_several: bool = False) -> None:
        """With ``has_several`` numbers of yours, each row names the one that it is about."""
        self.viewer = viewer
        self.rows = rows
        self.has_several = has_several

    def bound(self, column: Any) -> Any:
        """Return a column for these rows; one of a host project's own as it is."""
        name = getattr(column, "__name__", "")
        is_ours = getattr(type(self), name, None) is column
        return getattr(self, name) if is_ours else column

    @property
    def nothing(self) -> str:
        """What stands where there is no value."""
        return self.viewer.site.empty_value_display

    def customer(self, row: Any) -> Customer:
        return self._customers.get(row.contact) or Customer(row.contact)

    @cached_property
    def _customers(self) -> dict[str, Customer]:
        return self.viewer.directory.customers(self.contacts())

    def contacts(self) -> Iterable[str]:
        """Return whom the rows are about."""
        return (row.contact for row in self.rows)

    @cached_property
    def _hidden(self) -> set[int]:
        """The messages of these rows that the host project's own ``ModelAdmin`` leaves out."""
        return self.viewer.hidden(Message, {row.message_id for row in self.rows} - {None})

    @cached_property
    def _hidden_events(self) -> set[int]:
        """The same of the events that these rows wait for."""
        return self.viewer.hidden(WebhookEvent, set(self.waits_for.values()))

    def hides_message(self, row: Any) -> bool:
        """Whether this person may not see the message that a row is about."""
        return row.message_id in self._hidden

    def link(self, row: Any, obj: Model, text: str) -> str:
        """Return ``text`` as a link from a row to another, if this person may open its page."""
        if isinstance(obj, Message) and self.hides_message(row):
            return text
        return self.viewer.link(obj, text)

    def link_to_earlier(self, event: int | None, text: SafeString) -> SafeString | str:
        """Return a badge as a link to the event that it names, if this person may open its page."""
        is_linked = event is not None and event not in self._hidden_events
        return self.viewer.link(WebhookEvent(pk=event), text) if is_linked else text

    def link_to_contact(self, message: int, text: str) -> str:
        """Return ``text`` as a link to where the contact of the message with this key leads."""
        link = extension_of(self.viewer.site).contact_link(self.viewer, message)
        return format_html('<a href="{}">{}</a>', link.url, text)

    def own_number(self, message: Message) -> SafeString | str:
        return own_number_html(message) if self.has_several else ""

    @cached_property
    def waits_for(self) -> dict[int, int]:
        """By the key of a call in order (it has a contact): the earlier event that it waits for."""
        state = HandlerCall.State.WAITING
        waiting = [call for call in self.calls() if call.contact and call.state == state]
        if not waiting:
            return {}
        same = HandlerCall.objects.unfinished().filter(
            contact__in={call.contact for call in waiting},
            handler__in={call.handler for call in waiting},
        )
        rows = same.order_by().values_list("handler", "contact").annotate(Min("event_id"))
        first: dict[Any, int] = {(handler, contact): event for handler, contact, event in rows}

        def first_event(call: HandlerCall) -> int:
            return first.get((call.handler, call.contact), call.event_id)

        return {call.pk: first_event(call) for call in waiting if first_event(call) < call.event_id}
