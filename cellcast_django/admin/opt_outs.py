"""The pages of opt-outs: who must not be texted and why, and how staff begin and end one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import Unprinted, ago, beginning, readable_number
from cellcast_django.admin.extension import Link, extension_of
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.export import Export, columns
from cellcast_django.admin.lists.filters import ChoiceFilter, PeriodFilter
from cellcast_django.admin.lists.paging import key_in
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.search import Search, spellings
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number, to_contact
from cellcast_django.database.transactions import again_if_refused, database_alias
from cellcast_django.models import Direction, Message, OptOut, OptOutChange, WebhookEvent
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.payloads import clean

MESSAGE = "message"  # names the message from whose page a form was opened
MAX_NOTE_LENGTH = 1_000
MAX_REPLIES = 100  # whose words may be in a history
MAX_QUOTE_LENGTH = 500  # characters of a reply that the suggested reason quotes


class StateFilter(ChoiceFilter):
    """Active opt-outs, or those that somebody has ended."""

    title = _("state")
    parameter_name = "state"
    options = [("active", _("opted out")), ("ended", _("ended"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return rows.active() if choice == "active" else rows.filter(ended_at__isnull=False)


class BegunFilter(PeriodFilter):
    """When a contact opted out, any of the times that it did."""

    title = _("time of opting out")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.first is None and self.last is None:
            return queryset
        begun = OptOutChange.objects.using(queryset.db).filter(kind=OptOutChange.Kind.BEGUN)
        in_range = super().queryset(request, begun)  # by ``time_field``: a change's, not a row's
        return queryset.filter(pk__in=in_range.values("opt_out"))


class ReasonForm(forms.Form):
    """Why an opt-out begins or ends."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_NOTE_LENGTH,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=_("For example: asked at the counter. Stored with the opt-out."),
    )


class AddOptOutForm(ReasonForm, forms.ModelForm):  # type: ignore[type-arg]  # no [] on Django 5.2
    """Whom to opt out, and why."""

    # Not named like the model's field, which Django 5.2 would look up.
    number = forms.CharField(
        label=_("Phone number"),
        max_length=64,
        widget=forms.TextInput(attrs={"inputmode": "tel", "autocomplete": "off", "dir": "ltr"}),
        help_text=_("Any format, such as 0491 570 156."),
    )
    field_order = ["number", "reason"]

    class Meta:
        model = OptOut
        fields: list[str] = []

    def clean_number(self) -> str:
        """Refuse what is not a phone number: a typo would opt nobody out."""
        written = clean(str(self.cleaned_data["number"]))
        if not is_phone_number(written, conf.default_region):
            raise forms.ValidationError(_("This is not a valid phone number."), "invalid")
        return written


def opt_out_url(viewer: Viewer, message: int, contact: str) -> str:
    """Return the URL of the form that opts a contact out; ``""`` for those who may not.

    Empty without a phone number, too. No URL holds the number: it has the key of one of the
    contact's messages instead.
    """
    if not viewer.may_view(OptOut) or not is_phone_number(contact, conf.default_region):
        return ""
    may_add = viewer.site.get_model_admin(OptOut).has_add_permission(viewer.request)
    return f"{viewer.url(OptOut, 'add')}?{MESSAGE}={message}" if may_add else ""


def opened_from(viewer: Viewer, contact: str | None = None) -> Message | None:
    """Return the message that the form's address names, if this person may see it.

    With a ``contact``, only if it is theirs: another number may have been typed into the form.
    """
    key = key_in(viewer.request.GET, MESSAGE)
    if key is None or not viewer.may_view(Message):
        return None
    named = viewer.rows(Message).filter(pk=key)
    if contact is not None:
        named = named.filter(contact=contact)
    return named.first()


def url_to_go_back_to(viewer: Viewer, opt_out: OptOut) -> str:
    """Return where a form leads to: to the contact's message that it was opened from, if any."""
    message = opened_from(viewer, opt_out.contact)
    if message is None:
        return viewer.url(OptOut, "change", opt_out.pk)
    return extension_of(viewer.site).url_after_opt_out(viewer, message)


class OptOutColumns(Columns):
    """Opt-outs in their list."""

    @admin.display(description=_("contact"))
    def contact(self, opt_out: OptOut) -> str:
        return self.customer(opt_out).html

    @admin.display(description=_("since"))
    def when(self, opt_out: OptOut) -> SafeString:
        return ago(opt_out.since)

    @admin.display(description=_("state"))
    def state(self, opt_out: OptOut) -> SafeString:
        is_active = opt_out.is_active
        return badge(Tone.BAD, _("opted out")) if is_active else badge(Tone.QUIET, _("ended"))


class OptOutSearch(Search):
    """Finds opt-outs, which have no id, by their contacts."""

    def meanings(self, term: str) -> list[Q]:
        return [Q(contact=each) for each in spellings(term)]


class OptOutExport(Export):
    """Opt-outs as a file."""

    model = OptOut
    permissions = ("export_optout",)
    columns = columns("id", "contact", "since", "source", "event_id", "ended_at", "note")


class EndPage(Page):
    """Opts a contact back in, after asking why."""

    name = "end"
    route = "<int:pk>/end/"
    model = OptOut
    permissions = ("end_optout",)
    title = _("Opt back in")
    template = "cellcast_django/optout/end.html"

    def show(self, pk: int) -> HttpResponse:
        opt_out = get_object_or_404(self.viewer.rows(OptOut), pk=pk)
        back_url = url_to_go_back_to(self.viewer, opt_out)
        posted = self.request.POST
        form = ReasonForm(posted if "reason" in posted else None)  # a bare POST only asks, too
        history = OptOutChange.objects.fresh().filter(opt_out=pk).order_by("-pk")
        newest = history.values_list("pk", flat=True).first() or 0
        posted_seen = key_in(posted, "seen")
        seen = newest if posted_seen is None else posted_seen  # when the page was first shown
        if opt_out.is_active and not form.is_valid():
            content = Content(
                form=form,
                customer=self.viewer.directory.customer(opt_out.contact),
                seen=seen,
                back_url=back_url,
                keys=[],  # no rows of a list: the address names the opt-out
                has_more=False,
            )
            return self.render(content)
        if opt_out.is_active and newest > seen:
            again = gettext("Not ended: this customer has opted out again meanwhile.")
            self.viewer.tell(again, messages.WARNING)
        else:  # it says so if it has ended already
            self.end(opt_out, form)
        return HttpResponseRedirect(back_url)

    def end(self, opt_out: OptOut, form: ReasonForm) -> None:
        """End it, or say that somebody was quicker: then the form may be invalid."""
        has_ended = opt_out.is_active and opt_in(
            opt_out.contact, note=form.cleaned_data["reason"], username=self.viewer.username
        )
        if has_ended:
            self.viewer.log(opt_out, "Opted the customer back in.")
            self.viewer.tell(gettext("The opt-out has ended."))
        else:
            self.viewer.tell(gettext("This has already ended."), messages.INFO)


class OptOutAdmin(ReadOnlyAdmin):
    """Who must not be texted. Staff add and end opt-outs, but never edit or delete them."""

    rows_type = OptOutColumns
    search_type = OptOutSearch
    pages = [EndPage, OptOutExport]
    form = AddOptOutForm
    list_display = [OptOutColumns.contact, OptOutColumns.when, "source", OptOutColumns.state]
    list_filter = [StateFilter, "source", BegunFilter]
    time_field = "at"  # of a change, for BegunFilter
    nothing_here = _("Nobody has opted out.")
    list_defer = ["note"]
    ordering = ["-since", "-pk"]
    fields = [("since", "source", "event"), ("ended_at", "note")]
    search_fields = ["contact"]
    search_help_text = _("Phone number (any format).")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out rows that were locked, but have not begun."""
        return super().get_queryset(request).exclude(source="")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.viewer(request).may("add_optout")

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Opt somebody out; as a whole once more after a deadlock, for it is one transaction."""
        add = partial(super().add_view, request, *args, **kwargs)
        return again_if_refused(add, using=database_alias())

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["number", "reason"]})]
        return super().get_fieldsets(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Fill in the number, and the words of the reply that asks for it."""
        message = opened_from(self.viewer(request))
        if message is None:
            return {}
        is_reply = message.direction == Direction.INBOUND and message.body
        words = beginning(message.body, MAX_QUOTE_LENGTH)
        return {
            "number": readable_number(message.contact),
            "reason": gettext("Asked in a reply: “%(text)s”") % {"text": words} if is_reply else "",
        }

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Opt the contact out, with the words of the reply that asks for it."""
        viewer = self.viewer(request)
        number, reason = form.cleaned_data["number"], form.cleaned_data["reason"]
        message = opened_from(viewer, to_contact(number))
        is_reply = message is not None and message.direction == Direction.INBOUND
        reply = message if is_reply else None
        saved = opt_out(number, note=reason, username=viewer.username, asked_in=reply)
        obj.pk, obj.contact = saved.pk, saved.contact  # the admin goes on with its own object

    def construct_change_message(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the log says: nobody changes one, so it is about one that was added."""
        return "Opted the customer out."

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Say who has been opted out, unless this person may view none, and lead back."""
        viewer = self.viewer(request)
        if not viewer.may_view(OptOut):
            viewer.tell(gettext("Opted out."))
            return HttpResponseRedirect(viewer.url(OptOut, "add"))
        customer = viewer.directory.customer(obj.contact).label
        viewer.tell(gettext("Opted out: %(customer)s") % {"customer": customer})
        return HttpResponseRedirect(url_to_go_back_to(viewer, obj))

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        if obj is None:  # the form that opts somebody out
            message = opened_from(viewer)
            label = viewer.directory.customer(message.contact).label if message else ""
            asked = gettext("Opt out: %(customer)s") % {"customer": label}
            return {"title": Unprinted(asked) if label else gettext("Opt out")}
        out, back_in = gettext("%(customer)s: opted out"), gettext("%(customer)s: opted back in")
        customer = viewer.directory.customer(obj.contact).label
        title = (out if obj.is_active else back_in) % {"customer": customer}
        may_end = obj.is_active and viewer.may("end_optout")
        page = Content(
            state=OptOutColumns(viewer, [obj]).state(obj),
            steps=list(_history(viewer, obj)),
            contact_link=_contact_link(viewer, obj),
            end_url=EndPage.url(viewer, obj.pk) if may_end else "",
        )
        return {"title": Unprinted(title), "subtitle": None, "page": page}


def _contact_link(viewer: Viewer, opt_out: OptOut) -> Link | None:
    """Return where the contact leads to, if this person sees a message of theirs."""
    if not viewer.may_view(Message):
        return None
    messages = viewer.rows(Message).filter(contact=opt_out.contact).order_by("-created_at")
    newest = messages.values_list("pk", flat=True).first()
    return extension_of(viewer.site).contact_link(viewer, newest) if newest is not None else None


def _replies_with(viewer: Viewer, contact: str, words: set[str]) -> list[Message]:
    """Return a contact's replies of just these words: a history keeps its words, not a key."""
    if not words or not viewer.may_view(Message):
        return []
    replies = viewer.rows(Message).filter(contact=contact, direction=Direction.INBOUND)
    return list(replies.filter(body__in=words).order_by("-created_at")[:MAX_REPLIES])


def _history(viewer: Viewer, opt_out: OptOut) -> Iterator[Content]:
    """Yield each change, with the event and the reply that it came from."""
    changes = OptOutChange.objects.using(opt_out._state.db).filter(opt_out=opt_out)
    history: list[Any] = list(changes.annotate(message=F("event__message")))
    events = {}
    if viewer.may_view(WebhookEvent):
        events = viewer.rows(WebhookEvent).in_bulk([change.event_id for change in history])
    words = {change.text for change in history if change.text}
    replies = _replies_with(viewer, opt_out.contact, words)
    for change in history:
        tone = Tone.BAD if change.kind == OptOutChange.Kind.BEGUN else Tone.QUIET
        event = events.get(change.event_id)
        # A person's opt-out has no event: then it is the newest with these words by that time.
        fitting = (
            each
            for each in replies
            if each.pk == change.message
            or (each.body == change.text and each.created_at <= change.at)
        )
        reply = next(fitting, None)
        yield Content(
            change=change,
            badge=badge(tone, change.get_kind_display()),
            event_link=viewer.link(event, f"#{event.pk}") if event else "",
            reply=reply,  # whose words they are, if this person may see it
            reply_url=viewer.url(Message, "change", reply.pk) if reply else "",
        )
