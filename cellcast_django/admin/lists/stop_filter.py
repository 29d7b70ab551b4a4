"""Filter for replies that mention stopping without being a stop word, for a person to check."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.lists.filters import Choices, DirectionFilter, newest
from cellcast_django.models import Direction
from cellcast_django.opt_outs import may_want_to_stop, opted_out


class StopFilter(admin.SimpleListFilter):
    """Replies that may ask for no more messages, from contacts who have not opted out.

    No index can find them, so only the newest replies are read. Hidden in a list of sent messages.
    """

    title = _("may want to stop")
    parameter_name = "stop"
    PERHAPS = "perhaps"
    MAX_REPLIES = 5_000
    MAX_LENGTH = 1_600
    """Characters of a text that are checked: no SMS is longer."""
    MAX_FOUND = 1_000

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choice."""
        if request.GET.get(DirectionFilter.parameter_name) == Direction.OUTBOUND:
            return []
        return [(self.PERHAPS, _("possibly (latest 5,000 replies)"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the replies that a person should check."""
        if self.value() != self.PERHAPS:
            return queryset
        replies = newest(queryset.filter(direction=Direction.INBOUND), self.MAX_REPLIES)
        texts = replies.order_by("-created_at").values_list(
            "pk", "contact", Left("body", self.MAX_LENGTH)
        )
        found = [(pk, contact) for pk, contact, text in texts if may_want_to_stop(text)]
        opted_out_contacts = opted_out(contact for _pk, contact in found)
        keys = [pk for pk, contact in found if contact not in opted_out_contacts]
        return queryset.filter(pk__in=keys[: self.MAX_FOUND])
