"""The filters of the lists. Each one asks for what an index answers, and offers no counts."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Min, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.lists.search import narrow_to_any
from cellcast_django.models import Direction
from cellcast_django.statuses import UNDELIVERED, Status

Choices = Iterable[tuple[str, Any]]


class ExactFilter(admin.SimpleListFilter):
    """Rows that have one of the choices in the column that the filter is named after."""

    parameter_name: str
    words: ClassVar[Choices]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return self.words

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice; anything else that the address says is passed over."""
        if self.value() not in dict(self.lookup_choices):
            return queryset
        return queryset.filter(**{self.parameter_name: self.value()})


class DirectionFilter(ExactFilter):
    """Replies, or what you sent."""

    title = _("direction")
    parameter_name = "direction"
    words = [(Direction.INBOUND.value, _("received")), (Direction.OUTBOUND.value, _("sent"))]


class StatusFilter(ExactFilter):
    """The statuses of what you sent, or that there is none, yet or still. Hidden among replies."""

    title = _("delivery status")
    parameter_name = "status"
    MAX_WORDS = 30
    UNHEARD = "-"
    UNDELIVERED = "undelivered"
    SILENT = "silent"
    SILENT_AFTER = timedelta(hours=6)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the statuses that we know, then what else Cellcast has said, and at last none."""
        is_inbound = request.GET.get(DirectionFilter.parameter_name) == Direction.INBOUND
        if is_inbound:
            return []
        known = [(status.value, status.label) for status in reversed(Status)]
        in_use = self._words_in_use(_sent(model_admin.get_queryset(request)))
        others = [(word, word) for word in in_use if word not in Status.values]
        ended = [(self.UNDELIVERED, _("not delivered"))]
        without = [(self.UNHEARD, _("no status yet")), (self.SILENT, _("no status for 6 hours"))]
        return [*ended, *known, *others, *without]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice, among what you sent."""
        if self.value() == self.UNHEARD:
            return _sent(queryset).filter(status="")
        if self.value() == self.UNDELIVERED:
            sent = _sent(queryset)
            return narrow_to_any(queryset, *(sent.filter(status=word) for word in UNDELIVERED))
        if self.value() == self.SILENT:
            silent_since = timezone.now() - self.SILENT_AFTER
            return _sent(queryset).filter(status="", created_at__lte=silent_since)
        if self.value() not in dict(self.lookup_choices):
            return queryset
        return super().queryset(request, _sent(queryset))

    def _words_in_use(self, queryset: QuerySet[Any]) -> list[str]:
        """Hop through the index from word to word: ``DISTINCT`` would read the whole table."""
        words = [""]
        while len(words) < self.MAX_WORDS:
            following = queryset.filter(status__gt=words[-1]).order_by("status")
            word = following.values_list("status", flat=True).first()
            if word is None:
                break
            words.append(word)
        return words[1:]


def _sent(messages: QuerySet[Any]) -> QuerySet[Any]:
    return messages.filter(direction=Direction.OUTBOUND)


def newest(messages: QuerySet[Any], count: int) -> QuerySet[Any]:
    """Narrow to the newest so many messages."""
    some = messages.order_by("-created_at").values("created_at")[:count]
    start: datetime | None = some.aggregate(start=Min("created_at"))["start"]
    return messages if start is None else messages.filter(created_at__gte=start)


def midnight(day: date) -> datetime:
    """Return the start of a day in the current time zone."""
    start = datetime.combine(day, time.min)
    return timezone.make_aware(start) if settings.USE_TZ else start


class PeriodFilter(admin.SimpleListFilter):
    """The last day, week or month; or a day of the calendar, which the bars of charts lead to."""

    parameter_name = "period"
    time_field: ClassVar[str]
    """Not ``field``: under that name skins such as Grappelli expect a model's field."""
    DAYS = {"1": _("last 24 hours"), "7": _("last 7 days"), "30": _("last 30 days")}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the periods by their days."""
        chosen = request.GET.get(self.parameter_name, "")
        day = _day_of(chosen)
        return [*self.DAYS.items(), *([(chosen, date_format(day, "j M Y"))] if day else [])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the period."""
        days = self.value()
        if day := _day_of(days or ""):
            start, end = midnight(day), midnight(day + timedelta(days=1))
            return queryset.filter(
                **{f"{self.time_field}__gte": start, f"{self.time_field}__lt": end}
            )
        if days not in self.DAYS:
            return queryset
        start = timezone.now() - timedelta(days=int(days))
        return queryset.filter(**{f"{self.time_field}__gte": start})


def _day_of(word: str) -> date | None:
    """Return the day that an address names, if it is one of our times: ``2026-11-26``."""
    with suppress(ValueError):
        day = parse_date(word)
        return day if day and 2000 <= day.year < 2100 else None  # noqa: PLR2004
    return None


class CreatedFilter(PeriodFilter):
    """When a message was first heard of."""

    title = _("date")
    time_field = "created_at"
