"""The pages of opt-outs: who must not be texted, how that came, and how staff begin and end one."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.contacts import Customer, customer_of
from cellcast_django.admin.display.badges import Tone, badge, opt_out_state_badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import (
    Unprinted,
    ago,
    beginning,
    counted,
    isolated,
    readable_number,
)
from cellcast_django.admin.extension import Link, extension_of
from cellcast_django.admin.lists.export import Export, columns
from cellcast_django.admin.lists.filters import ChoiceFilter, PeriodFilter, values_in_use
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.rows import Rows
from cellcast_django.admin.lists.search import Search, spellings
from cellcast_django.admin.page import Page
from cellcast_django.admin.selection import MAX_SELECTED, ChosenRows, confirmed, in_time, tell_left
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number, to_contact
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.payloads import clean

MESSAGE = "message"
"""Names the message from whose page a form was opened."""
MAX_NOTE_LENGTH = 1_000
MAX_QUOTE_LENGTH = 500  # characters of a reply that the suggested reason quotes


class StateFilter(ChoiceFilter):
    """Active opt-outs, or those that somebody has ended."""

    title = _("state")
    parameter_name = "state"
    options = [("active", _("opted out")), ("ended", _("ended"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return rows.active() if choice == "active" else rows.filter(ended_at__isnull=False)


class SourceFilter(ChoiceFilter):
    """How an opt-out was made."""

    title = _("source")
    parameter_name = "source"
    options = OptOut.Source.choices


class SecretFilter(ChoiceFilter):
    """With which secret the webhook came that began an opt-out: one may have leaked.

    For those who may end opt-outs.
    """

    title = _("received as")
    parameter_name = "received_as"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        if not Viewer(model_admin.admin_site, request).may("end_optout"):
            return []
        changes = OptOutChange.objects.all()
        usernames = values_in_use(changes, self.parameter_name)
        return [(username, isolated(username)) for username in usernames]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        begun = OptOutChange.objects.using(rows.db).filter(received_as=choice)
        return rows.filter(Exists(begun.filter(opt_out=OuterRef("pk"), at=OuterRef("since"))))


class BegunFilter(PeriodFilter):
    """When a contact opted out, any of the times that it did.

    Beside a secret, as there, only the last time: what began on that day may have ended, and begun
    again in some other way since.
    """

    title = _("time of opting out")
    time_field = "at"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        begun = OptOutChange.objects.using(queryset.db).filter(kind=OptOutChange.Kind.BEGUN)
        if request.GET.get(SecretFilter.parameter_name):
            begun = begun.filter(at=F("opt_out__since"))
        chosen = super().queryset(request, begun)
        return queryset if chosen is begun else queryset.filter(pk__in=chosen.values("opt_out"))


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
    may_view = False
    """Whether this person may know who has opted out."""

    class Meta:
        model = OptOut
        fields: list[str] = []

    def clean_number(self) -> str:
        """Refuse what is not a phone number: a typo would opt nobody out."""
        written = clean(str(self.cleaned_data["number"]))
        if not is_phone_number(written, conf.default_region):
            raise forms.ValidationError(_("This is not a valid phone number."), "invalid")
        if self.may_view and is_opted_out(written):
            raise forms.ValidationError(_("This contact has already opted out."), "opted_out")
        return written


# Where it is asked for


def may_opt_out(viewer: Viewer) -> bool:
    """Whether this person may use the form that opts somebody out."""
    if not viewer.may_view(OptOut):
        return False
    return viewer.site.get_model_admin(OptOut).has_add_permission(viewer.request)


def opt_out_url(viewer: Viewer, message: Message) -> str:
    """Return the link to the form that opts a customer out; ``""`` without a phone number.

    No address holds the number: it names one of the customer's messages instead.
    """
    if not is_phone_number(message.contact, conf.default_region):
        return ""
    return f"{viewer.url(OptOut, 'add')}?{MESSAGE}={message.pk}"


def asked_in(viewer: Viewer, **of: str) -> Message | None:
    """Return the message from whose page a form was opened, if this person may see it."""
    key = viewer.request.GET.get(MESSAGE, "")
    if not is_key(key) or not viewer.may_view(Message):
        return None
    found: Message | None = viewer.rows(Message).filter(pk=int(key), **of).first()
    return found


def url_to_go_back_to(viewer: Viewer, opt_out: OptOut) -> str:
    """Return where a form leads to: to the contact's message that it was opened from, if any."""
    message = asked_in(viewer, contact=opt_out.contact)
    if message is None:
        return viewer.url(OptOut, "change", opt_out.pk)
    return extension_of(viewer.site).url_after_opt_out(viewer, message)


# The pages


class OptOutRows(Rows):
    """Opt-outs in their list."""

    @admin.display(description=_("contact"))
    def contact(self, opt_out: OptOut) -> str:
        return self.customer(opt_out).html

    @admin.display(description=_("since"))
    def when(self, opt_out: OptOut) -> SafeString:
        return ago(opt_out.since)

    @admin.display(description=_("event"))
    def event(self, opt_out: OptOut) -> str:
        if opt_out.event_id is None:
            return self.nothing
        return self.viewer.link(WebhookEvent(pk=opt_out.event_id), f"#{opt_out.event_id}")

    @admin.display(description=_("state"))
    def state(self, opt_out: OptOut) -> SafeString:
        return opt_out_state_badge(opt_out)


class OptOutSearch(Search):
    """Finds opt-outs, which have no id, by their contacts."""

    def meanings(self, term: str) -> list[Q]:
        return [Q(contact=each) for each in spellings(term)]


class OptOutExport(Export):
    """Opt-outs as a file."""

    model = OptOut
    permissions = ("export_optout",)
    columns = columns("id", "contact", "since", "source", "event_id", "ended_at", "note")


@shown
class EndContent(ChosenRows):
    """Whom the form opts back in: one customer, or how many."""

    form: ReasonForm
    customer: Customer | None
    seen: int
    """The last row of any history when the page was first shown."""


class EndPage(Page):
    """Opts one contact back in, or those that were selected in the list, after asking why.

    Run again, it goes on with those that are left.
    """

    name = "end"
    route = "<int:pk>/end/"
    model = OptOut
    permissions = ("end_optout",)
    title = _("Opt back in")
    template = "cellcast_django/optout/end.html"

    def show(self, pk: int) -> HttpResponse:
        chosen = self.viewer.rows(OptOut).filter(pk=pk)
        return self.ask_or_end(chosen, url_to_go_back_to(self.viewer, get_object_or_404(chosen)))

    def ask_or_end(self, chosen: Any, back_url: str) -> HttpResponse:
        """Ask why; once that is known, end them."""
        posted = self.request.POST
        form = ReasonForm(posted if "reason" in posted else None)
        found = list(chosen.active().order_by("pk").defer("note")[: MAX_SELECTED + 1])
        seen = int(posted["seen"]) if is_key(posted.get("seen", "")) else newest_change()
        if found and not form.is_valid():
            content = EndContent(
                keys=[each.pk for each in found[:MAX_SELECTED]],
                has_more=len(found) > MAX_SELECTED,
                back_url=back_url,
                form=form,
                customer=customer_of(found[0].contact) if len(found) == 1 else None,
                seen=seen,
            )
            return self.render(content)
        if found:
            self.end(found, seen, form.cleaned_data["reason"])
        else:
            self.viewer.tell(gettext("This has already ended."), messages.INFO)
        return HttpResponseRedirect(back_url)

    def end(self, found: list[OptOut], seen: int, reason: str) -> None:
        """End them until time is up, each by itself; leave alone what has begun again since."""
        contacts = {each.pk: each.contact for each in found}
        tried = ended = 0
        try:
            for pk in in_time(list(contacts)):
                tried += 1
                later = OptOutChange.objects.fresh().filter(opt_out=pk, pk__gt=seen)
                if not later.exists():
                    ended += opt_in(contacts[pk], note=reason, username=self.viewer.username)
        finally:
            if ended and len(found) == 1:
                self.viewer.log(found[0], "Ended the opt-out.")
            elif ended:
                self.viewer.log_list(OptOut, f"Ended {counted(ended, 'opt-out', 'opt-outs')}.")
        if ended:
            sentence = ngettext("%d opt-out has ended.", "%d opt-outs have ended.", ended)
            self.viewer.tell(sentence % ended)
        if changed := tried - ended:
            alone = ngettext(
                "%d opt-out stays as it is: it has ended or begun again since the page was shown.",
                "%d opt-outs stay as they are: they have ended or begun again since the page was "
                "shown.",
                changed,
            )
            self.viewer.tell(alone % changed, messages.WARNING)
        tell_left(self.viewer, len(found) - tried)


def newest_change() -> int:
    """Return the key of the last row of any history."""
    changes = OptOutChange.objects.fresh().order_by("-pk")
    return changes.values_list("pk", flat=True).first() or 0


@admin.action(permissions=["end"], description=_("Opt back in"))
def end_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
    """End the opt-outs that were selected."""
    viewer = Viewer(model_admin.admin_site, request)
    chosen = confirmed(viewer, OptOut) if "confirmed" in request.POST else queryset
    return EndPage(viewer).ask_or_end(chosen, request.get_full_path())


class OptOutAdmin(ReadOnlyAdmin):
    """Who must not be texted. Staff add and end opt-outs, but never edit or delete them."""

    rows_type = OptOutRows
    search_type = OptOutSearch
    pages = [EndPage, OptOutExport]
    form = AddOptOutForm
    list_display = [
        OptOutRows.contact,
        OptOutRows.when,
        "source",
        OptOutRows.event,
        OptOutRows.state,
    ]
    list_filter = [StateFilter, SourceFilter, BegunFilter, SecretFilter]
    actions = [end_selected]
    nothing_here = _("Nobody has opted out.")
    list_defer = ["note"]
    ordering = ["-since", "-pk"]
    fields = [("since", "source", "event"), ("ended_at", "note")]
    search_fields = ["contact"]
    search_help_text = _("Phone number (any format).")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out rows that were locked, but have not begun."""
        opt_outs: QuerySet[Any] = super().get_queryset(request).exclude(source="")
        return opt_outs

    def has_add_permission(self, request: HttpRequest) -> bool:
        return Viewer(self.admin_site, request).may("add_optout")

    def has_end_permission(self, request: HttpRequest) -> bool:
        return Viewer(self.admin_site, request).may("end_optout")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["number", "reason"]})]
        return super().get_fieldsets(request, obj)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.may_view = self.has_view_permission(request)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Fill in the number, and the words of the reply that asks for it."""
        message = asked_in(Viewer(self.admin_site, request))
        if message is None:
            return {}
        is_reply = message.direction == Direction.INBOUND and message.body
        words = beginning(message.body, MAX_QUOTE_LENGTH)
        return {
            "number": readable_number(message.contact),
            "reason": gettext("Asked in a reply: “%(text)s”") % {"text": words} if is_reply else "",
        }

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Opt the contact out, and let the desk mark the reply that asks for it as handled.

        The reply first: the inbox too locks messages before opt-outs.
        """
        viewer = Viewer(self.admin_site, request)
        number, reason = form.cleaned_data["number"], form.cleaned_data["reason"]
        reply = None
        if message := asked_in(viewer, contact=to_contact(number)):
            extension_of(viewer.site).has_opted_out(viewer, message)
            reply = message if message.direction == Direction.INBOUND else None
        made = opt_out(number, note=reason, username=viewer.username, asked_in=reply)
        obj.pk, obj.contact = made.pk, made.contact

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Say who has been opted out, and return to where it was asked for.

        Whoever may add opt-outs, but view none, is not told who it is, nor whether that was new.
        """
        viewer = Viewer(self.admin_site, request)
        if not viewer.may_view(OptOut):
            viewer.tell(gettext("Opted out."))
            return HttpResponseRedirect(viewer.url(OptOut, "add"))
        told = gettext("Opted out: %(customer)s") % {"customer": customer_of(obj.contact).label}
        viewer.tell(told)
        return HttpResponseRedirect(url_to_go_back_to(viewer, obj))

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        if obj is None:
            is_one = {"show_save_and_add_another": False, "show_save_and_continue": False}
            return {"title": gettext("Opt out"), **is_one}
        title = gettext("%(customer)s: opted back in")
        if obj.is_active:
            title = gettext("%(customer)s: opted out")
        may_end = obj.is_active and viewer.may("end_optout")
        page = OptOutPage(
            state=OptOutRows(viewer, [obj]).state(obj),
            decisions=list(_decisions(viewer, obj)),
            contact_link=_contact_link(viewer, obj),
            end_url=EndPage.url(viewer, obj.pk) if may_end else "",
        )
        customer = customer_of(obj.contact).label
        return {"title": Unprinted(title % {"customer": customer}), "subtitle": None, "page": page}


@shown
class Decision:
    """A change of an opt-out's history."""

    change: OptOutChange
    badge: SafeString
    event_link: str


@shown
class OptOutPage:
    """What the page of an opt-out shows."""

    state: SafeString
    decisions: list[Decision]
    contact_link: Link | None
    end_url: str


def _contact_link(viewer: Viewer, opt_out: OptOut) -> Link | None:
    """Return where the contact leads to, if this person sees a message of theirs."""
    if not viewer.may_view(Message):
        return None
    rows = viewer.rows(Message).filter(contact=opt_out.contact).order_by("-created_at")
    newest = rows.values_list("pk", flat=True).first()
    return None if newest is None else extension_of(viewer.site).contact_link(viewer, newest)


def _decisions(viewer: Viewer, opt_out: OptOut) -> Iterator[Decision]:
    """Yield each change of the history."""
    history = list(OptOutChange.objects.using(opt_out._state.db).filter(opt_out=opt_out))
    events = {}
    if viewer.may_view(WebhookEvent):
        events = viewer.rows(WebhookEvent).in_bulk([change.event_id for change in history])
    for change in history:
        tone = Tone.BAD if change.kind == OptOutChange.Kind.BEGUN else Tone.QUIET
        event = events.get(change.event_id)
        yield Decision(
            change=change,
            badge=badge(tone, change.get_kind_display()),
            event_link=viewer.link(event, f"#{event.pk}") if event else "",
        )
