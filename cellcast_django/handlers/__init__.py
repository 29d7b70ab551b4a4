"""From rows to handlers: every handler is called once per fact, again only if it did not finish.

Handlers run after the commit and outside any transaction of ours. Each one's result is saved before
the next one runs, so a crash repeats at most the call that it interrupted. ``calls`` says what an
event has to tell and makes one call, ``schedule`` says when and saves how it ended, ``in_order``
keeps a contact's order; start with ``attempts``, which runs an event's handlers.
"""

from cellcast_django.handlers.attempts import (
    Progress,
    Tally,
    run,
    run_again,
    run_due,
    skip,
    summary,
)

__all__ = ["Progress", "Tally", "run", "run_again", "run_due", "skip", "summary"]
