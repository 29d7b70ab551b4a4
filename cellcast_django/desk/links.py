"""From the host project's own pages to a customer's conversation."""

from django.contrib.admin.sites import all_sites
from django.http import HttpRequest
from phonenumbers import PhoneNumber

from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.viewer import Viewer
from cellcast_django.contacts import to_contact
from cellcast_django.desk.admin import Desk, is_on
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.models import Message


def conversation_url(number: str | PhoneNumber, *, request: HttpRequest) -> str | None:
    """Return where the conversation with a number is, in any spelling of it.

    ``None`` if there is none, or for a person who may not view it. One query. The address does not
    hold the number. Of several admin sites, the one that the request is for, or else the first
    where this person may view messages.
    """
    contact = to_contact(number)
    if not contact:
        return None
    name = getattr(request, "current_app", None)
    for site in sorted(all_sites, key=lambda site: (site.name != name, site.name != "admin")):
        if not isinstance(extension_of(site), Desk) or not is_on(site, ConversationPage):
            continue
        viewer = Viewer.of(site, request)
        if site.has_permission(request) and viewer.may_view(Message):
            newest = viewer.rows(Message).filter(contact=contact).order_by("-created_at", "-pk")
            key = newest.values_list("pk", flat=True).first()
            return None if key is None else ConversationPage.url(viewer, key)
    return None
