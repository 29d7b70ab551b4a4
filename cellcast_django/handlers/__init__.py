"""From rows to handlers: every handler is called once per fact, again only if it did not finish.

Handlers run after the commit and outside any transaction of ours, so a crash repeats at most the
call that it interrupted. ``steps`` says how a call begins and ends; start with ``attempts``.
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
