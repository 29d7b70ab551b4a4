"""What staff do about a customer from their messages: opt out and back in, hand over their data.

No address holds the customer's number: it names one of their messages instead.
"""

import shlex
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from cellcast_django.admin.contacts import Customer
from cellcast_django.admin.display.texts import today
from cellcast_django.admin.lists.export import streamed
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.conf import conf
from cellcast_django.contact_export import ContactData, every_row, lines
from cellcast_django.contacts import is_phone_number
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.retention import AboutContact

MESSAGE = "message"
BACK = "back"
TO_ANSWER = "to_answer"


@dataclass(frozen=True, repr=False)
class CustomerTools:
    """What a person may do about a customer. Nothing is printed: it names the customer."""

    contact: str
    opt_out_url: str = ""
    opt_in_url: str = ""
    opt_out_page: str = ""
    data_url: str = ""

    @property
    def erasure(self) -> str:
        return f"python manage.py cellcast_prune --contact {shlex.quote(self.contact)}"


class CustomerAdmin(ReadOnlyAdmin):
    """Messages, with what their pages offer to do about the customer."""

    def get_urls(self) -> list[URLPattern]:
        view = self.customer_data_view
        pattern = self.page_pattern("<int:pk>/customer-data/", view, "customer_data")
        return [pattern, *super().get_urls()]

    def may_opt_out(self, request: HttpRequest) -> bool:
        if not self.may_view(request, OptOut):
            return False
        return self.admin_site.get_model_admin(OptOut).has_add_permission(request)

    def opt_out_url(self, message: Message, *, back: str = "") -> str:
        """Return the link to the form that opts the customer out; ``""`` without a phone number.

        ``back=TO_ANSWER`` leads back to *To answer*, otherwise to the conversation.
        """
        if not is_phone_number(message.contact, conf.default_region):
            return ""
        return self.url_of(OptOut, "add") + _query(message, back)

    def customer_tools(
        self, request: HttpRequest, message: Message, customer: Customer
    ) -> CustomerTools:
        """Return what the conversation offers this person to do about the customer."""
        urls = {}
        if customer.opted_out_since is None:
            if self.may_opt_out(request):
                urls["opt_out_url"] = self.opt_out_url(message)
        elif self.may_view(request, OptOut):
            opt_outs = self.rows_of(request, OptOut).filter(contact=customer.contact)
            if (pk := opt_outs.values_list("pk", flat=True).first()) is not None:
                urls["opt_out_page"] = self.url_of(OptOut, "change", pk)
                may_end = request.user.has_perm("cellcast_django.end_optout")
                if may_end and self.has_our_pages(OptOut):
                    urls["opt_in_url"] = self.url_of(OptOut, "end", pk) + _query(message)
        if customer.contact and self.may_export_customer(request):
            urls["data_url"] = self.url_of(Message, "customer_data", message.pk)
        return CustomerTools(customer.contact, **urls)

    def may_export_customer(self, request: HttpRequest) -> bool:
        """Whether this person may export each of the lists that hold a customer's data."""
        return all(
            self.may_view(request, model)
            and request.user.has_perm(f"cellcast_django.export_{model._meta.model_name}")
            for model in (Message, WebhookEvent, OptOut)
        )

    @method_decorator(require_POST)
    def customer_data_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Send everything stored about the customer that this site shows to this person."""
        if not self.may_export_customer(request):
            raise PermissionDenied
        messages = self.get_queryset(request).exclude(contact="")
        message = get_object_or_404(messages.only("contact"), pk=pk)

        def rows(model: Any) -> Any:
            if self.admin_site.is_registered(model):
                return self.rows_of(request, model)
            return every_row(model)

        data = ContactData(
            AboutContact(message.contact),
            rows,
            has_log_entries=request.user.has_perm("cellcast_django.view_activity"),
        )
        self.log_change(request, message, "Exported everything stored about the customer.")
        name = f"customer-{today():%Y-%m-%d}.json"
        return streamed(request, lines(data), name=name, content_type="application/json")


def asked_in(model_admin: ReadOnlyAdmin, request: HttpRequest) -> Message | None:
    """Return the message from whose page a form was opened, if this person may see it."""
    key = request.GET.get(MESSAGE, "")
    if not is_key(key) or not model_admin.may_view(request, Message):
        return None
    if not model_admin.has_our_pages(Message):
        return None
    found: Message | None = model_admin.rows_of(request, Message).filter(pk=int(key)).first()
    return found


def back_url(model_admin: ReadOnlyAdmin, request: HttpRequest, message: Message) -> str:
    """Return where the form leads back to."""
    if request.GET.get(BACK) == TO_ANSWER:
        return model_admin.url_of(Message, "to_answer")
    return model_admin.url_of(Message, "conversation", message.pk)


def _query(message: Message, back: str = "") -> str:
    return f"?{MESSAGE}={message.pk}" + (f"&{BACK}={back}" if back else "")
