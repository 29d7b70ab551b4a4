"""The pages of opt-outs: who must not be texted, and how staff add and end one."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.badges import opt_out_state_badge
from cellcast_django.admin.display.texts import ago, customer_html
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import ChoiceFilter, PeriodFilter
from cellcast_django.admin.lists.read_only import spellings
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.models import OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.payloads import clean

MAX_REASON_LENGTH = 1_000


class StateFilter(ChoiceFilter):
    """Active opt-outs, or those that somebody has ended."""

    title = _("state")
    parameter_name = "state"
    options = [("active", _("opted out")), ("ended", _("ended"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in dict(self.options):
            return queryset
        return queryset.filter(ended_at__isnull=self.value() == "active")


class SourceFilter(ChoiceFilter):
    """How an opt-out was made."""

    title = _("source")
    parameter_name = "source"
    options = OptOut.Source.choices


class SinceFilter(PeriodFilter):
    """When a contact opted out."""

    title = _("since")
    time_field = "since"


class ReasonForm(forms.Form):
    """Why an opt-out ends."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
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
            raise forms.ValidationError(_("This is not a valid phone number."))
        if is_opted_out(written):
            raise forms.ValidationError(_("This contact has already opted out."))
        return written


class OptOutAdmin(ExportAdmin):
    """Who must not be texted. Staff add and end opt-outs, but never edit or delete them."""

    form = AddOptOutForm
    list_display = ["customer", "when", "source", "event_link", "state"]
    list_filter = [StateFilter, SourceFilter, SinceFilter]
    list_defer = ["note"]
    ordering = ["-since", "-pk"]
    fields = [("customer", "state"), ("since", "source", "event_link"), ("ended_at", "note")]
    search_fields = ["contact"]
    search_help_text = _("Phone number (any format).")
    export_columns = columns("id", "contact", "since", "source", "event_id", "ended_at", "note")

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

    def save_form(self, request: HttpRequest, form: Any, change: Any) -> OptOut:
        """Opt the contact out. Django logs who did it; the reason is kept with the opt-out."""
        return opt_out(form.cleaned_data["number"], note=form.cleaned_data["reason"])

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save nothing: ``opt_out`` has saved it under its lock."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Save nothing: an opt-out has no related rows."""

    def end_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for the reason, then end the opt-out."""
        self.require(request, "end")
        found = get_object_or_404(self.get_queryset(request), pk=pk)
        back = HttpResponseRedirect(self.url_of(OptOut, "change", pk))
        if not found.is_active:
            self.message_user(request, gettext("This opt-out has already ended."), messages.INFO)
            return back
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            if opt_in(found.contact, note=form.cleaned_data["reason"]):
                self.log_change(request, found, "Ended the opt-out.")
                self.message_user(request, gettext("The opt-out has ended."), messages.SUCCESS)
            return back
        return self.render_page(
            request,
            "optout/end.html",
            title=gettext("End this opt-out"),
            form=form,
            contact=self.customer(found),
            back_url=back.url,
        )

    @admin.display(description=_("contact"))
    def customer(self, opt_out: OptOut) -> str:
        return customer_html(customer_of(opt_out)) or self.get_empty_value_display()

    @admin.display(description=_("since"))
    def when(self, opt_out: OptOut) -> SafeString:
        return ago(opt_out.since)

    @admin.display(description=_("event"))
    def event_link(self, opt_out: OptOut) -> str:
        if opt_out.event_id is None:
            return self.get_empty_value_display()
        return self.link_to(WebhookEvent(pk=opt_out.event_id), f"#{opt_out.event_id}")

    @admin.display(description=_("state"))
    def state(self, opt_out: OptOut) -> SafeString:
        return opt_out_state_badge(opt_out)

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return the link to the page that ends it, for those who may."""
        may_end = obj is not None and obj.is_active and self.may(request, "end")
        return {"end_url": self.url_of(OptOut, "end", obj.pk) if may_end else ""}
