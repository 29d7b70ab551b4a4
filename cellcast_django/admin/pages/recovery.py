"""What the webhooks missed, for overview and setup: silent messages and the last recovery."""

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext_lazy as _, ngettext

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.texts import ago, figure
from cellcast_django.admin.lists.filters import StatusFilter
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.conf import conf
from cellcast_django.health import count_silent
from cellcast_django.models import CommandRun, Message

LISTS = {"replies": _("Replies"), "statuses": _("Delivery reports"), "opt-outs": _("Opt-outs")}
"""The lists of Cellcast's API, by their keys in the summary of a run."""


def details_of_recovery(model_admin: ReadOnlyAdmin) -> dict[str, Any]:
    """Return how many messages are silent, and what recovery last found."""
    silent = count_silent(StatusFilter.SILENT_AFTER)
    return {
        "silent": {
            "count": figure(silent),
            "badge": badge(Tone.OPEN if silent else Tone.QUIET, _("no report")),
            "url": f"{model_admin.url_of(Message, 'changelist')}?status={StatusFilter.SILENT}",
        },
        **details_of_last_run(),
    }


def details_of_last_run() -> dict[str, Any]:
    """Return when recovery last ran, what it found, and whether it has a key."""
    run = CommandRun.objects.filter(command=CommandRun.Command.RECOVER).first()
    return {
        "has_key": bool(conf.api_key),
        "recovered": None if run is None else ago(run.ran_at),
        "recovered_lists": [] if run is None else list(lists(run.summary)),
    }


def lists(summary: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was found in each list that was read."""
    for name, words in LISTS.items():
        if name not in summary:
            continue
        found = summary[name]
        yield {
            "name": words,
            "found": ngettext(
                "%(missing)s of %(seen)s was missing",
                "%(missing)s of %(seen)s were missing",
                found["missing"],
            )
            % {"missing": figure(found["missing"]), "seen": figure(found["seen"])},
            "is_incomplete": bool(found["error"]),
        }
