"""Sentences about a number of events: what an action will do, and what it has done."""

from django.utils.translation import ngettext_lazy

WILL_ANNOUNCE = ngettext_lazy(
    "%(count)d event will be announced.", "%(count)d events will be announced.", "count"
)
WILL_PROCESS = ngettext_lazy(
    "%(count)d invalid event will be read again.",
    "%(count)d invalid events will be read again.",
    "count",
)
UNHEARD = ngettext_lazy(
    "For %(count)d event nobody is left to be called.",
    "For %(count)d events nobody is left to be called.",
    "count",
)
TIME_IS_UP = ngettext_lazy(
    "Time was up: %(count)d event has been left as it was. Do it again for this one.",
    "Time was up: %(count)d events have been left as they were. Do it again for these.",
    "count",
)
NOTHING_TO_SAY = ngettext_lazy(
    "%(count)d event has nothing to announce, or nobody to hear it.",
    "%(count)d events have nothing to announce, or nobody to hear it.",
    "count",
)
ANNOUNCED = ngettext_lazy(
    "%(count)d event has been announced.", "%(count)d events have been announced.", "count"
)
WAITING = ngettext_lazy(
    "%(count)d event waits for its next announcement.",
    "%(count)d events wait for their next announcement.",
    "count",
)
FAILED = ngettext_lazy(
    "%(count)d event has failed: it waits for a person.",
    "%(count)d events have failed: they wait for a person.",
    "count",
)
NOTHING_LEFT = ngettext_lazy(
    "%(count)d event has nothing left to announce.",
    "%(count)d events have nothing left to announce.",
    "count",
)
UNDERSTOOD = ngettext_lazy(
    "%(count)d event has been understood.", "%(count)d events have been understood.", "count"
)
STILL_INVALID = ngettext_lazy(
    "%(count)d event still cannot be understood.",
    "%(count)d events still cannot be understood.",
    "count",
)
NOT_INVALID = ngettext_lazy(
    "%(count)d event is not invalid: there is nothing to process again.",
    "%(count)d events are not invalid: there is nothing to process again.",
    "count",
)
TOO_MANY = ngettext_lazy(
    "Nothing was done: no more than %(count)d event can be selected.",
    "Nothing was done: no more than %(count)d events can be selected.",
    "count",
)
