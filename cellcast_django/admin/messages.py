"""The pages of messages."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import Customer, attach_customers, customer_of
from cellcast_django.admin.display.badges import (
    HandlerRow,
    Tone,
    badge,
    handled_badge,
    handler_rows,
    opt_out_badge,
    outcome_badge,
    status_badge,
    test_badge,
)
from cellcast_django.admin.display.texts import (
    Unprinted,
    beginning,
    brief_ago,
    duration,
    media_links,
    own_number_html,
)
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import (
    CreatedFilter,
    DirectionFilter,
    HandledFilter,
    MessageTestFilter,
    OptedOutFilter,
    OwnNumberFilter,
    ReasonFilter,
    StatusFilter,
    StopFilter,
    newest,
)
from cellcast_django.admin.lists.read_only import MAX_WORDS, QUOTES, narrow_to_any
from cellcast_django.desk.admin import PagesAdmin
from cellcast_django.desk.conversation import Conversation, ConversationAdmin
from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent
from cellcast_django.models.message import HAS_REFERENCE
from cellcast_django.payloads import Endpoint, Reply, StatusReport, read
from cellcast_django.statuses import description_of

MAX_TEXT_LENGTH = 160
"""Characters of a message's text in the list; CSS cuts what does not fit on the line."""
MAX_PICTURES = 3  # links to pictures per message in the list
MAX_REASON_SHOWN = 40  # characters of a failure's reason in the list
MAX_CHANGES = 100  # rows of the history on a message's page, one per status
MAX_EVENTS = 20  # newest events on a message's page; a link leads to the others

_change = StatusChange.objects.filter(message=OuterRef("pk"), status=OuterRef("status"))
REASON = Subquery(_change.values("reason")[:1])


class MessageAdmin(ConversationAdmin, PagesAdmin, ExportAdmin):
    """Received and sent SMS."""

    list_display = ["when", "contact_link", "text_start", "state"]
    list_display_links = ["when"]
    list_defer = ["body", "original_body"]
    list_filter = [
        DirectionFilter,
        HandledFilter,
        CreatedFilter,
        OwnNumberFilter,
        StopFilter,
        StatusFilter,
        OptedOutFilter,
        MessageTestFilter,
        ReasonFilter,
    ]
    ordering = ["-created_at", "-pk"]
    search_fields = ["contact", "cellcast_id", "body"]
    search_help_text = _(
        "Phone number (any format), Cellcast id, reference, or words. Words search the latest "
        "10,000 messages."
    )
    export_columns = (
        columns("id", "created_at", "direction", "contact", "own_number", "status", "reason")
        | columns("status_changed_at", "submitted_at", "handled_at", "handled_by", "sent_by")
        | columns("opted_out_at", "reference", "body")
        | {"media": lambda message: "\n".join(message.media)}
        | columns("original_body", "cellcast_id", "sender", "receiver")
    )
    fields = [
        ("submitted_at", "created_at", "status_changed_at", "handled_at", "opted_out_at"),
        ("cellcast_id", "reference", "sender", "receiver", "own_number"),
    ]

    def meanings(self, term: str) -> list[Q]:
        return [*super().meanings(term), HAS_REFERENCE & Q(reference=term)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the start of the text, which is all that the list shows, and the failure's reason."""
        messages: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .annotate(beginning=Left("body", MAX_TEXT_LENGTH + 1), reason=REASON)
        )
        return messages

    def find(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Find by number or id, or else by name and by words in the newest texts."""
        rows = self.get_queryset(request)
        found = narrow_to_any(queryset, *map(rows.filter, self.exact(term)))
        if found.exists():
            return found
        has_words = Q()
        for word in term.strip(QUOTES).split()[:MAX_WORDS]:
            has_words &= Q(body__icontains=word)
        texts = newest(queryset, self.paginator.MAX_COUNT).filter(has_words)
        return narrow_to_any(queryset, *map(rows.filter, self.named(term)), texts)

    def prefetch(self, rows: Any) -> None:
        attach_customers(rows)
        # Our own Test Sends have made or touched them.
        events = WebhookEvent.objects.filter(is_test=True, message__in=[row.pk for row in rows])
        tested = set(events.values_list("message_id", flat=True))
        for row in rows:
            row.is_test = row.pk in tested

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add *Opt out…* to replies that may ask for it, for those who may do it."""
        shown = super().get_list_display(request)
        if request.GET.get(StopFilter.parameter_name) and self.may_opt_out(request):
            return [*shown, "opt_out_link"]
        return shown

    @admin.display(description="", empty_value="")
    def opt_out_link(self, message: Message) -> str:
        url = self.opt_out_url(message)
        if not url or customer_of(message).opted_out_since is not None:
            return ""
        return format_html(
            '<a href="{}" data-opt-out="{}">{}…</a>', url, message.pk, gettext("Opt out")
        )

    @admin.display(description=_("contact"))
    def contact_link(self, message: Message) -> SafeString:
        customer = customer_of(message)
        is_reply = message.direction == Direction.INBOUND
        return format_html(
            '<span class="cellcast-direction" aria-hidden="true">{}</span>'
            '<span class="cellcast-hidden">{}</span> <a href="{}">{}</a> {} {}',
            "↙" if is_reply else "↗",
            gettext("received from") if is_reply else gettext("sent to"),
            self.url_of(Message, "conversation", message.pk),
            customer.html or gettext("(no number)"),
            own_number_html(message) if getattr(message, "has_several", False) else "",
            opt_out_badge(customer.opted_out_since, is_brief=True),
        )

    @admin.display(description=_("text"))
    def text_start(self, message: Any) -> SafeString:
        if words := beginning(message.beginning, MAX_TEXT_LENGTH):
            text = format_html('<bdi class="cellcast-line">{}</bdi>', words)
        else:
            text = format_html('<span class="quiet">{}</span>', why_empty(message))
        return format_html("{} {}", text, media_links(message.media, MAX_PICTURES))

    @admin.display(description=_("status"))
    def state(self, message: Any) -> SafeString:
        shown = message_state(message, customer_of(message))
        if message.direction == Direction.OUTBOUND and message.reason:
            words = beginning(message.reason, MAX_REASON_SHOWN)
            shown = format_html('{} <bdi class="cellcast-reason quiet">{}</bdi>', shown, words)
        return format_html("{} {}", shown, test_badge(getattr(message, "is_test", False)))

    @admin.display(description=_("when"))
    def when(self, message: Message) -> SafeString:
        return brief_ago(message.created_at)

    def link_to_answered(self, request: HttpRequest, reply: Message) -> SafeString | str:
        """Return the text that a reply most probably answers, as a link to its message."""
        found = reply.in_reply_to
        if found is None or not self.get_queryset(request).filter(pk=found.pk).exists():
            return ""
        is_guess = found.cellcast_id != reply.cellcast_id
        if is_guess and reply.original_body and reply.original_body != found.body:
            return ""  # it quotes a text that was not recorded
        text = found.body or reply.original_body
        words = beginning(text, MAX_TEXT_LENGTH) or gettext("(text not recorded)")
        url = self.url_of(Message, "change", found.pk)
        return format_html(
            '<a href="{}" data-answered="{}"><bdi>{}</bdi></a>', url, found.pk, words
        )

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        page = MessagePage(self, request, obj)
        return {"title": page.title, "subtitle": None, "page": page}


@dataclass(frozen=True, repr=False)
class EventOfMessage:
    """One event on the page of its message."""

    event: WebhookEvent
    link: str
    state: SafeString | str | None

    @property
    def outcome(self) -> SafeString:
        return outcome_badge(self.event)

    @property
    def handlers(self) -> list[HandlerRow]:
        rows = handler_rows(self.event, list(self.event.handler_results), self.link)
        return [row for row in rows if row.at is not None]


@dataclass
class Step:
    """One thing that happened; ``wait`` is the time since the previous step."""

    at: datetime
    badge: SafeString
    sentence: str | Promise = ""
    reason: str = ""
    """Cellcast's own words about a failure."""
    stayed: SafeString | None = None
    """The status that the message kept, if the report came late."""
    event: WebhookEvent | None = None
    wait: str = ""


class MessagePage:
    """What the page of a message shows, in the order of the reader's questions.

    Not printed: trackers store what templates are given.
    """

    max_events = MAX_EVENTS

    def __init__(self, admin: MessageAdmin, request: HttpRequest, message: Any) -> None:
        self.customer = customer_of(message)
        is_reply = message.direction == Direction.INBOUND
        words = gettext("From %(customer)s") if is_reply else gettext("To %(customer)s")
        self.title = Unprinted(words % {"customer": self.customer.label or gettext("(no number)")})
        self.state = message_state(message, self.customer)
        self.sentence = "" if is_reply else str(description_of(message.status))
        self.why_empty = why_empty(message)
        self.answered = admin.link_to_answered(request, message)
        may_handle = admin.may(request, "handle")
        self.can_be_handled = may_handle and is_reply and not message.handled_at
        self.undo = admin.pop_undo(request)
        self.around = Conversation(admin, request, message).around()
        # Those who may not view events, or the history, see no part about them.
        self.events: list[EventOfMessage] | None = None
        self.timeline: list[Step] | None = None
        if admin.may_view(request, WebhookEvent):
            rows = admin.rows_of(request, WebhookEvent).filter(message=message)
            newest_first = list(rows.order_by("-pk")[: MAX_EVENTS + 1])
            self.has_more_events = len(newest_first) > MAX_EVENTS
            self.events = [
                EventOfMessage(
                    event,
                    admin.link_to(message, event, f"#{event.pk}"),
                    admin.event_state(message, event),
                )
                for event in newest_first[:MAX_EVENTS]
            ]
            url = admin.url_of(WebhookEvent, "changelist")
            self.all_events_url = f"{url}?message__id__exact={message.pk}"
        if admin.may_view(request, StatusChange):
            rows = admin.rows_of(request, StatusChange).filter(message=message)
            events = [each.event for each in self.events or ()]
            self.timeline = steps(message, rows.order_by("pk")[:MAX_CHANGES], events)
        handlers = [row for each in self.events or () for row in each.handlers]
        self.failed = [row for row in handlers if row.error]
        self.finished = [row for row in handlers if not row.error]


def steps(
    message: Message, changes: Iterable[StatusChange], events: Iterable[WebhookEvent]
) -> list[Step]:
    """Return the submission, each reported status, and each repeated report.

    The list is empty if nothing has been reported.
    """
    duplicates = (each for each in events if each.outcome == WebhookEvent.Outcome.DUPLICATE)
    is_reply = message.direction == Direction.INBOUND
    reported = [
        Step(
            change.recorded_at,
            status_badge(change.status),
            str(description_of(change.status, is_reply=is_reply)),
            reason=change.reason,
            stayed=None if change.applied else status_badge(change.previous_status),
        )
        for change in changes
    ]
    reported += map(_step_of_duplicate, duplicates)
    if not reported:
        return []
    if message.submitted_at is not None:
        sentence = _("Accepted by Cellcast (time from the message id)")
        reported.append(Step(message.submitted_at, badge(Tone.QUIET, _("submitted")), sentence))
    ordered = sorted(reported, key=attrgetter("at"))  # stable: changes precede their duplicates
    for previous, step in pairwise(ordered):
        step.wait = f"+{duration(step.at - previous.at)}"
    return ordered


def _step_of_duplicate(event: WebhookEvent) -> Step:
    # Only the body of the event has the repeated status, and it may be redacted.
    [payload, *_others] = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    sentence = gettext("Repeated")
    if isinstance(payload, Reply | StatusReport):
        sentence = gettext("Repeated: “%(status)s”") % {"status": payload.status}
    return Step(event.received_at, badge(Tone.QUIET, _("duplicate")), sentence, event=event)


def why_empty(message: Message) -> str:
    """Return why there is no text; empty where pictures stand in its place."""
    if message.media:
        return ""
    if message.direction == Direction.INBOUND:
        return gettext("(no text)")
    return gettext("(text not recorded)")


def message_state(message: Any, customer: Customer) -> SafeString | str:
    """Return the delivery status of a sent message, or whether a reply is done.

    Nobody need answer a customer who has opted out: that reply is neither.
    """
    if message.direction == Direction.OUTBOUND:
        return status_badge(message.status)
    if not message.handled_at and customer.opted_out_since:
        return ""
    return handled_badge(message.handled_at)
