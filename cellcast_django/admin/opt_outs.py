"""The pages of opt-outs: who must not be texted, how that came, and how staff begin and end one."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.badges import Tone, badge, opt_out_state_badge, test_badge
from cellcast_django.admin.display.texts import (
    Unprinted,
    beginning,
    brief_ago,
    exact_time,
    readable_number,
)
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import ChoiceFilter, PeriodFilter
from cellcast_django.admin.lists.read_only import spellings
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.desk.customer import asked_in, back_url
from cellcast_django.desk.to_answer import ToAnswerAdmin
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutChange,
    WebhookEvent,
    contact_of,
)
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.payloads import clean

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


class BegunFilter(PeriodFilter):
    """When a contact opted out, any of the times that it did."""

    title = _("time of opting out")
    time_field = "at"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        begun = OptOutChange.objects.using(queryset.db).filter(kind=OptOutChange.Kind.BEGUN)
        chosen = super().queryset(request, begun)
        return queryset if chosen is begun else queryset.filter(pk__in=chosen.values("opt_out"))


class ReasonForm(forms.Form):
    """Why an opt-out ends."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_NOTE_LENGTH,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=_("For example: signed up again at the counter. Stored with the opt-out."),
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = _(
            "For example: asked at the counter. Stored with the opt-out."
        )

    def clean_number(self) -> str:
        """Refuse what is not a phone number: a typo would opt nobody out."""
        written = clean(str(self.cleaned_data["number"]))
        if not is_phone_number(written, conf.default_region):
            raise forms.ValidationError(_("This is not a valid phone number."), "invalid")
        if is_opted_out(written):
            raise forms.ValidationError(_("This contact has already opted out."), "opted_out")
        return written


class OptOutAdmin(ExportAdmin):
    """Who must not be texted. Staff add and end opt-outs, but never edit or delete them."""

    form = AddOptOutForm
    list_display = ["customer", "when", "source", "event_link", "state"]
    list_filter = [StateFilter, SourceFilter, BegunFilter]
    list_defer = ["note"]
    ordering = ["-since", "-pk"]
    fields = [("since", "source", "event"), ("ended_at", "note")]
    search_fields = ["contact"]
    search_help_text = _("Phone number (any format).")
    export_columns = columns("id", "contact", "since", "source", "event_id", "ended_at", "note")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out rows that were locked, but have not begun."""
        opt_outs: QuerySet[Any] = super().get_queryset(request).exclude(source="")
        return opt_outs

    def get_urls(self) -> list[URLPattern]:
        return [self.page_pattern("<int:pk>/end/", self.end_view, "end"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "add")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["number", "reason"]})]
        return super().get_fieldsets(request, obj)

    def meanings(self, term: str) -> list[Q]:
        return [Q(contact=each) for each in spellings(term)]

    def prefetch(self, rows: Any) -> None:
        attach_customers(rows)
        events = WebhookEvent.objects.filter(pk__in=[row.event_id for row in rows if row.event_id])
        tests = set(events.filter(is_test=True).values_list("pk", flat=True))
        for row in rows:
            row.is_test = row.event_id in tests

    def nothing_here(self, request: HttpRequest) -> str:
        """Say of a running site that nobody has opted out: it need not be set up."""
        is_running = WebhookEvent.objects.exists() or Message.objects.exists()
        return gettext("Nobody has opted out.") if is_running else ""

    # Opting out

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Fill in the number, and the words of the reply that asks for it."""
        message = asked_in(self, request)
        if message is None:
            return {}
        is_reply = message.direction == Direction.INBOUND and message.body
        words = beginning(message.body, MAX_QUOTE_LENGTH)
        return {
            "number": readable_number(message.contact),
            "reason": gettext("Asked in a reply: “%(text)s”") % {"text": words} if is_reply else "",
        }

    def save_form(self, request: HttpRequest, form: Any, change: Any) -> OptOut:
        """Opt the contact out, and mark the reply that asks for it as handled.

        The reply first: the inbox too locks messages before opt-outs.
        """
        number, reason = form.cleaned_data["number"], form.cleaned_data["reason"]
        if message := _asked_by(self, request, contact_of(number)):
            pages = self.admin_site.get_model_admin(Message)
            if isinstance(pages, ToAnswerAdmin) and pages.has_handle_permission(request):
                pages.handle(request, [message], timezone.now())
        return opt_out(number, note=reason, username=self.username(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save nothing: ``opt_out`` has saved it under its lock."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Save nothing: an opt-out has no related rows."""

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Say who has been opted out, and return to where it was asked for."""
        words = gettext("Opted out: %(customer)s") % {"customer": customer_of(obj).label}
        self.message_user(request, words, messages.SUCCESS)
        message = _asked_by(self, request, obj.contact)
        if message is None:
            return HttpResponseRedirect(self.url_of(OptOut, "change", obj.pk))
        return HttpResponseRedirect(back_url(self, request, message))

    # Opting back in

    def end_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self.require(request, "end")
        found = get_object_or_404(self.get_queryset(request), pk=pk)
        message = asked_in(self, request)
        url = self.url_of(OptOut, "change", pk)
        if message is not None:
            url = back_url(self, request, message)
        if not found.is_active:
            self.message_user(request, gettext("This opt-out has already ended."), messages.INFO)
            return HttpResponseRedirect(url)
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            username, reason = self.username(request), form.cleaned_data["reason"]
            if opt_in(found.contact, note=reason, username=username):
                self.log_change(request, found, "Ended the opt-out.")
                self.message_user(request, gettext("The opt-out has ended."), messages.SUCCESS)
            return HttpResponseRedirect(url)
        return self.render_page(
            request,
            "cellcast_django/optout/end.html",
            title=gettext("Opt back in"),
            form=form,
            customer=customer_of(found),
            back_url=url,
        )

    # What the list and the page show

    @admin.display(description=_("contact"))
    def customer(self, opt_out: OptOut) -> str:
        return customer_of(opt_out).html or self.get_empty_value_display()

    @admin.display(description=_("since"))
    def when(self, opt_out: OptOut) -> SafeString:
        return brief_ago(opt_out.since)

    @admin.display(description=_("event"))
    def event_link(self, opt_out: OptOut) -> str:
        if opt_out.event_id is None:
            return self.get_empty_value_display()
        return self.link_to(opt_out, WebhookEvent(pk=opt_out.event_id), f"#{opt_out.event_id}")

    @admin.display(description=_("state"))
    def state(self, opt_out: OptOut) -> SafeString:
        is_test = getattr(opt_out, "is_test", False)
        return format_html("{} {}", opt_out_state_badge(opt_out), test_badge(is_test))

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        if obj is None:
            is_one = {"show_save_and_add_another": False, "show_save_and_continue": False}
            return {"title": gettext("Opt out"), **is_one}
        customer = customer_of(obj).label
        title = gettext("%(customer)s: opted back in")
        if obj.is_active:
            title = gettext("%(customer)s: opted out")
        since = gettext("since %(when)s") % {"when": exact_time(obj.ended_at or obj.since)}
        may_end = obj.is_active and self.may(request, "end")
        return {
            "title": Unprinted(title % {"customer": customer}),
            "subtitle": None,
            "state": self.state(obj),
            "since": since,
            "steps": list(self._steps(request, obj)),
            "conversation_url": self._conversation_url(request, obj),
            "end_url": self.url_of(OptOut, "end", obj.pk) if may_end else "",
        }

    def _conversation_url(self, request: HttpRequest, opt_out: OptOut) -> str:
        """Return the link to the conversation; empty if this person sees no message of it."""
        if not (self.may_view(request, Message) and self.has_our_pages(Message)):
            return ""
        rows = self.rows_of(request, Message).filter(contact=opt_out.contact)
        newest = rows.order_by("-created_at").values_list("pk", flat=True).first()
        return "" if newest is None else self.url_of(Message, "conversation", newest)

    def _steps(self, request: HttpRequest, opt_out: OptOut) -> Iterator[dict[str, Any]]:
        """Yield each change of the history as the page shows it."""
        history = list(OptOutChange.objects.using(opt_out._state.db).filter(opt_out=opt_out))
        events: set[int] = set()
        if self.may_view(request, WebhookEvent):
            keys = [change.event_id for change in history if change.event_id is not None]
            events = set(self.rows_of(request, WebhookEvent).in_bulk(keys))
        for change in history:
            tone = Tone.BAD if change.kind == OptOutChange.Kind.BEGUN else Tone.QUIET
            key = change.event_id
            link = self.link_to(opt_out, WebhookEvent(pk=key), f"#{key}") if key in events else ""
            yield {
                "change": change,
                "badge": badge(tone, change.get_kind_display()),
                "event_link": link,
                # A payload's JSON rather than a customer's words.
                "is_raw": change.source in (OptOut.Source.WEBHOOK, OptOut.Source.LIST),
            }


def _asked_by(model_admin: OptOutAdmin, request: HttpRequest, contact: str) -> Message | None:
    """Return the message from whose page the form was opened, if it is this contact's."""
    message = asked_in(model_admin, request)
    return message if message is not None and message.contact == contact else None
