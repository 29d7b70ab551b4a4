"""The pages of messages."""

from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.customers import may_be_name
from cellcast_django.admin.display.badges import (
    Tone,
    although_opted_out_badge,
    badge,
    handled_badge,
    opt_out_badge,
    status_badge,
)
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import Unprinted, ago, beginning, exact_time, media_links
from cellcast_django.admin.events import WebhookEventColumns
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.export import Export, columns
from cellcast_django.admin.lists.filters import (
    CustomerFilter,
    DirectionFilter,
    HandledFilter,
    MessageTestFilter,
    OptedOutFilter,
    OwnNumberFilter,
    PeriodFilter,
    StatusFilter,
    StopFilter,
    newest,
)
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.search import Note, Search, narrow_to_any, words_of
from cellcast_django.admin.opt_outs import opt_out_url
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent
from cellcast_django.models.message import HAS_REFERENCE
from cellcast_django.statuses import description_of

MAX_TEXT_LENGTH = 160  # characters of a text in the list; CSS cuts what does not fit on the line
MAX_PICTURES = 3  # links to pictures per message in the list
MAX_REASON_SHOWN = 40  # characters of a failure's reason in the list
MAX_CHANGES = 100  # rows of the history on a message's page, one per status
MAX_EVENTS = 20  # newest events on a message's page; a link leads to the others
MAX_WORDS = 20  # more words are ignored: each adds a condition, and databases limit those

_change = StatusChange.objects.filter(message=OuterRef("pk"), status=OuterRef("status"))
REASON = Subquery(_change.values("reason")[:1])


class MessageColumns(Columns):
    """Messages in their list."""

    @admin.display(description=_("when"))
    def when(self, message: Message) -> SafeString:
        return ago(message.created_at)

    @admin.display(description=_("contact"))
    def contact(self, message: Message) -> SafeString:
        customer = self.customer(message)
        is_reply = message.direction == Direction.INBOUND
        return format_html(
            '<span class="cellcast-direction" aria-hidden="true">{}</span>'
            '<span class="cellcast-hidden">{}</span> {} {} {}',
            "↙" if is_reply else "↗",
            gettext("received from") if is_reply else gettext("sent to"),
            self.link_to_contact(message.pk, customer.html or gettext("(no number)")),
            self.own_number(message),
            opt_out_badge(customer.opted_out_since, is_brief=True),
        )

    @admin.display(description=_("text"))
    def text(self, message: Any) -> SafeString:
        if words := beginning(message.beginning, MAX_TEXT_LENGTH):  # from get_queryset
            waits = message.direction == Direction.INBOUND and not message.handled_at
            classes = "cellcast-line cellcast-waits" if waits else "cellcast-line"
            text = format_html('<bdi class="{}">{}</bdi>', classes, words)
        else:
            text = format_html('<span class="quiet">{}</span>', why_empty(message))
        return format_html("{} {}", text, media_links(message.media, MAX_PICTURES))

    @admin.display(description=_("status"))
    def state(self, message: Any) -> SafeString | str:
        shown = message_state(message)
        if message.direction == Direction.OUTBOUND and message.reason:
            words = beginning(message.reason, MAX_REASON_SHOWN)
            shown = format_html('{} <bdi class="cellcast-reason quiet">{}</bdi>', shown, words)
        return shown


class MessageSearch(Search):
    """Finds messages by number, id or reference, or else by name and by words of new texts."""

    def meanings(self, term: str) -> list[Q]:
        return [*super().meanings(term), HAS_REFERENCE & Q(reference=term)]

    def find(self, within: QuerySet[Any], term: str) -> QuerySet[Any]:
        exact = narrow_to_any(within, *map(self.rows.filter, self.exact(term)))
        if exact.exists():
            return exact
        # No index has words: they are looked for in the newest rows that filters have left.
        has_words = Q()
        for word in words_of(term)[:MAX_WORDS]:
            has_words &= Q(body__icontains=word)
        texts = newest(within, self.max_count).filter(has_words)
        named = self.named(term)
        finds_name = any(within.filter(each).exists() for each in named)
        if may_be_name(term) and not finds_name and texts.exists():
            sentence = gettext("No customer here is called that. These texts contain the words.")
            self.notes.append(Note("texts", sentence))
        return narrow_to_any(within, *map(self.rows.filter, named), texts)


class MessageExport(Export):
    """Messages as a file."""

    model = Message
    permissions = ("export_message",)
    columns = (
        columns("id", "created_at", "direction", "contact", "own_number", "status", "reason")
        | columns("status_changed_at", "submitted_at", "handled_at", "handled_by")
        | {"handled_note": lambda message: message.handled_note if message.handled_at else ""}
        | columns("sent_by")
        | columns("opted_out_at", "reference", "body")
        | {"media": lambda message: "\n".join(message.media)}
        | columns("original_body", "cellcast_id", "sender", "receiver")
    )


class MessageAdmin(ReadOnlyAdmin):
    """Received and sent SMS."""

    rows_type = MessageColumns
    search_type = MessageSearch
    pages = [MessageExport]
    list_display = [
        MessageColumns.when,
        MessageColumns.contact,
        MessageColumns.text,
        MessageColumns.state,
    ]
    list_defer = ["body", "original_body"]
    list_filter = [
        DirectionFilter,
        HandledFilter,
        PeriodFilter,
        OwnNumberFilter,
        StopFilter,
        StatusFilter,
        OptedOutFilter,
        MessageTestFilter,
        CustomerFilter,
    ]
    time_field = "created_at"
    ordering = ["-created_at", "-pk"]
    search_fields = ["contact", "cellcast_id", "body"]
    search_help_text = _(
        "Number in any format, words, or an id or reference. Words are searched in the latest "
        "10,000 messages."
    )
    fields = [
        ("submitted_at", "created_at", "status_changed_at", "handled_at", "opted_out_at"),
        ("cellcast_id", "reference", "sender", "receiver", "own_number"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the start of the text, which is all that the list shows, and the failure's reason."""
        start = Left("body", MAX_TEXT_LENGTH + 1)  # one more tells that the text goes on
        rows: QuerySet[Any] = super().get_queryset(request).annotate(beginning=start, reason=REASON)
        return rows

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        customer = MessageColumns(viewer, [obj]).customer(obj)
        is_free = customer.opted_out_since is None
        if is_reply := obj.direction == Direction.INBOUND:
            title, crumb = gettext("From %(customer)s"), gettext("Reply of %(time)s")
        else:
            title, crumb = gettext("To %(customer)s"), gettext("Message of %(time)s")
        page = Content(  # in the order of the reader's questions
            customer=customer,
            state=message_state(obj),
            although_opted_out=although_opted_out_badge(obj.opted_out_at),
            sentence="" if is_reply else description_of(obj.status),
            # What the host project calls its reference, if it has one.
            references=list(viewer.directory.references([obj.reference]).values()),
            why_empty=why_empty(obj),
            answered=link_to_answered(viewer, obj),
            opt_out_url=opt_out_url(viewer, obj.pk, obj.contact) if is_free else "",
            timeline=timeline(viewer, obj),
            events=events_of(viewer, obj),
        )
        label = customer.label or gettext("(no number)")
        return {
            "title": Unprinted(title % {"customer": label}),
            "subtitle": None,
            "crumb": crumb % {"time": exact_time(obj.created_at)},
            "page": page,
            "panels": extension_of(viewer.site).panels_of_message(viewer, obj),
        }


def events_of(viewer: Viewer, message: Message) -> list[Content] | None:
    """Return the newest events of a message; ``None`` for those who may not view events."""
    if not viewer.may_view(WebhookEvent):
        return None
    found = viewer.rows(WebhookEvent).filter(message=message).defer("body").order_by("-pk")
    columns = WebhookEventColumns(viewer, list(found.prefetch_related("calls")[:MAX_EVENTS]))
    return [
        Content(
            event=event,
            link=viewer.link(event, f"#{event.pk}"),
            state=columns.state(event),
            problem=columns.problem(event),
        )
        for event in columns.rows
    ]


def link_to_answered(viewer: Viewer, reply: Message) -> SafeString | str:
    """Return the text that a reply most probably answers, as a link to its message."""
    found = reply.in_reply_to
    if found is None or not viewer.rows(Message).filter(pk=found.pk).exists():
        return ""
    is_guess = found.cellcast_id != reply.cellcast_id  # the same id leaves no doubt
    if is_guess and reply.original_body and reply.original_body != found.body:
        return ""  # it quotes a text that was not recorded
    text = found.body or reply.original_body
    words = beginning(text, MAX_TEXT_LENGTH) or gettext("(text not recorded)")
    url = viewer.url(Message, "change", found.pk)
    return format_html('<a href="{}" data-answered="{}"><bdi>{}</bdi></a>', url, found.pk, words)


def timeline(viewer: Viewer, message: Message) -> list[Content] | None:
    """Return the submission and each reported status; nothing if nothing has been reported.

    ``None`` for those who may not view the history.
    """
    if not viewer.may_view(StatusChange):
        return None
    changes = viewer.rows(StatusChange).filter(message=message).order_by("pk")[:MAX_CHANGES]
    is_reply = message.direction == Direction.INBOUND
    steps = [
        Content(
            at=change.recorded_at,
            badge=status_badge(change.status),
            sentence=description_of(change.status, is_reply=is_reply),
            reason=change.reason,  # Cellcast's own words about a failure
            # What the message kept, if the report came late.
            stayed=None if change.applied else status_badge(change.previous_status),
        )
        for change in changes
    ]
    if steps and message.submitted_at is not None:  # alone it is no report
        submitted = badge(Tone.QUIET, _("submitted"))
        sentence = _("Accepted by Cellcast (time from the message id)")
        at = message.submitted_at
        steps.append(Content(at=at, badge=submitted, sentence=sentence, reason="", stayed=None))
    return sorted(steps, key=attrgetter("at"))


def why_empty(message: Message) -> str:
    """Return why there is no text; empty where pictures stand in its place."""
    if message.media:
        return ""
    if message.direction == Direction.INBOUND:
        return gettext("(no text)")
    return gettext("(text not recorded)")


def message_state(message: Any) -> SafeString | str:
    """Return the delivery status of a sent message, or whether a reply is done."""
    if message.direction == Direction.OUTBOUND:
        return status_badge(message.status)
    return handled_badge(message.handled_at)
