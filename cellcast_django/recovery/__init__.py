"""Cellcast's API → payloads: fetches what no webhook delivered, and stores it exactly once.

``client`` fetches the pages of a list. ``replies``, ``statuses`` and ``opt_outs`` find what is
missing from the database, and pass it to the pipeline that webhooks take. Start with ``recover``.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta

from django.utils import timezone

from cellcast_django.models import CommandRun
from cellcast_django.recovery.client import Client, RecoveryError, WrongKeyError
from cellcast_django.recovery.opt_outs import recover_opt_outs
from cellcast_django.recovery.replies import recover_replies
from cellcast_django.recovery.run import Findings, Kind, Run
from cellcast_django.recovery.statuses import recover_statuses

__all__ = ["DEFAULT_AGE", "Findings", "Kind", "RecoveryError", "errors_of", "recover"]

DEFAULT_AGE = timedelta(days=2)

RECOVERIES: dict[Kind, Callable[[Client, Run, Findings], None]] = {
    Kind.REPLIES: recover_replies,
    Kind.STATUSES: recover_statuses,
    Kind.OPT_OUTS: recover_opt_outs,
}


def recover(
    kinds: Iterable[Kind] = Kind,
    *,
    age: timedelta = DEFAULT_AGE,
    dry_run: bool = False,
    progress: Callable[[Findings], None] | None = None,
) -> list[Findings]:
    """Ask Cellcast's API for what never arrived, store it and run its handlers.

    ``age`` is how far back to look. A list that cannot be read to its end has an ``error`` in its
    findings, and does not stop the others; a wrong key does. ``progress`` is called repeatedly with
    the findings so far. Safe to interrupt, to run again, and to run several times at once. Raises
    ``RecoveryError`` if the API cannot be asked at all, and ``django.db.Error``.
    """
    now = timezone.now()
    run = Run(
        since=now - age, now=now, dry_run=dry_run, progress=progress or (lambda _findings: None)
    )
    found = []
    with Client() as client:
        for kind in kinds:
            findings = Findings(kind)
            found.append(findings)
            try:
                RECOVERIES[kind](client, run, findings)
            except RecoveryError as error:
                findings.error = str(error)
                if isinstance(error, WrongKeyError):
                    break
    if not dry_run:
        CommandRun.record(
            CommandRun.Command.RECOVER, {each.kind.value: each.summary() for each in found}
        )
    return found


def errors_of(found: Iterable[Findings]) -> list[str]:
    """Return a sentence for each reason why lists could not be read to their end."""
    lists: dict[str, list[str]] = {}
    for findings in found:
        if findings.error:
            lists.setdefault(findings.error, []).append(findings.kind)
    return [f"{', '.join(kinds)}: {error}" for error, kinds in lists.items()]
