"""What staff do about a customer from their messages: opt out and back in, hand over their data."""

from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.day_range import RANGE, range_of
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.lists.export import streamed
from cellcast_django.admin.lists.read_only import is_ours
from cellcast_django.admin.opt_outs import MESSAGE, EndPage, opt_out_url
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.days import day_of
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.upkeep.contact_export import ContactData, every_row
from cellcast_django.upkeep.retention import AboutContact


def tools_for(viewer: Viewer, message: Message, customer: Customer) -> Content:
    """Return where this person can act on a customer; ``""`` for each thing they may not do."""
    is_free = customer.opted_out_since is None
    opt_out = None  # its key
    if not is_free and viewer.may_view(OptOut):
        opt_outs = viewer.rows(OptOut).filter(contact=customer.contact)
        opt_out = opt_outs.values_list("pk", flat=True).first()
    may_end = opt_out and viewer.may("end_optout") and is_ours(viewer.site, OptOut)
    may_export = customer.contact and CustomerData(viewer).is_allowed
    return Content(
        opt_out_url=opt_out_url(viewer, message.pk, message.contact) if is_free else "",
        opt_in_url=f"{EndPage.url(viewer, opt_out)}?{MESSAGE}={message.pk}" if may_end else "",
        opt_out_page=viewer.url(OptOut, "change", opt_out) if opt_out else "",
        data_url=CustomerData.url(viewer, message.pk) if may_export else "",
    )


class CustomerData(Page):
    """Everything stored about a customer that this site shows to this person, as a file."""

    name = "customer_data"
    route = "<int:pk>/customer-data/"
    model = Message
    only_takes_forms = True

    @property
    def is_allowed(self) -> bool:
        """Whether this person may view, and export, each list that holds a customer's data."""
        return self.viewer.may("view_statuschange") and all(
            self.viewer.may_view(model) and self.viewer.may(f"export_{model._meta.model_name}")
            for model in (Message, WebhookEvent, OptOut)
        )

    def show(self, pk: int) -> HttpResponseBase:
        messages = self.viewer.rows(Message).exclude(contact="")
        message = get_object_or_404(messages.only("contact"), pk=pk)
        form = self.request.POST
        if any(form.get(name) and not day_of(form[name]) for name in RANGE):
            raise BadRequest("This is not a day.")  # nor may it mean all of them
        first, last = range_of(form)
        data = ContactData(
            AboutContact(message.contact),
            self._rows,
            has_log_entries=self.viewer.may("view_activity"),
            first=first,
            last=last,
        )
        days = (f" from {first}" if first else "") + (f" until {last}" if last else "")
        self.viewer.log(message, f"Exported everything stored about the customer{days}.")
        name = f"customer-{timezone.localdate():%Y-%m-%d}.json"
        lines = iter([data.as_json()])
        return streamed(self.request, lines, name=name, content_type="application/json")

    def _rows(self, model: Any) -> Any:
        is_registered = self.viewer.site.is_registered(model)
        return self.viewer.rows(model) if is_registered else every_row(model)
