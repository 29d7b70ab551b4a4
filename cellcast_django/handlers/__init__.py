"""From rows to handlers: every handler is called once per fact, again only if it did not finish.

Handlers run after the commit and outside any transaction of ours. The end of each call is saved
before the next one begins, so a crash repeats at most the call that it interrupted. ``steps`` says
how a call is begun and ended, and ``attempts``, where to start, which one is next; ``work`` is what
an event has to tell, and how a handler is called safely.
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
