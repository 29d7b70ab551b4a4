"""Rows that were selected for an action: what the page that asks hands on, and the time limit."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model
from django.utils.translation import gettext

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.page import MAX_SECONDS
from cellcast_django.admin.viewer import Viewer

MAX_SELECTED = 1_000  # rows for one action


@shown
class ChosenRows:
    """What a page shows and hands on that asks before an action."""

    keys: Sequence[int]
    has_more: bool
    """Whether more rows were selected than one action takes."""
    back_url: str

    checkbox_name = ACTION_CHECKBOX_NAME
    limit = grouped(MAX_SELECTED)

    @property
    def joined_keys(self) -> str:
        """One field of the form: Django allows 1,000."""
        return ",".join(map(str, self.keys))


def confirmed(viewer: Viewer, model: type[Model]) -> Any:
    """Return the rows that the form hands on, of those that this person may see."""
    keys = [key for key in viewer.request.POST.get("keys", "").split(",") if is_key(key)]
    return viewer.rows(model).filter(pk__in=keys[:MAX_SELECTED])


def in_time(keys: Sequence[int]) -> Iterator[int]:
    """Yield the keys until time is up."""
    end = time.monotonic() + MAX_SECONDS
    for key in keys:
        if time.monotonic() >= end:
            return
        yield key


def tell_left(viewer: Viewer, left: int) -> None:
    """Say how many rows were not reached in time, if any."""
    if not left:
        return
    words = gettext(
        "Stopped after %(seconds)d seconds with %(count)s left. Do it again to continue."
    )
    viewer.tell(words % {"seconds": MAX_SECONDS, "count": grouped(left)}, messages.WARNING)
