"""There must be a credential, and its password must be hard to guess."""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Notice
from django.utils.translation import gettext

from cellcast_django.conf import conf, is_credential

MIN_PASSWORD_LENGTH = 16
MIN_DISTINCT_CHARACTERS = 6
SAMPLES = {
    "aladdin:open sesame",  # RFC 7617
    "cellcast:change-me",
    "cellcast:password",
    "user:pass",
    "user:password",
    "username:password",  # Cellcast's page and this app's documentation
}

Messages = Iterator[CheckMessage]


def check_credentials(**_: Any) -> Messages:
    """There must be a credential, and its password must be hard to guess."""
    yield from _check_old_name()
    value = getattr(settings, "CELLCAST_WEBHOOK_SECRETS", [])
    if not isinstance(value, (list, tuple)):
        yield Error(
            gettext("CELLCAST_WEBHOOK_SECRETS is not a list, so every webhook is refused."),
            hint=gettext(
                'Write ["username:password"], with the brackets. From an environment variable, use '
                'env.list(…) or .split(",").'
            ),
            id="cellcast_django.E001",
        )
        return
    if not value:
        yield Notice(
            gettext("CELLCAST_WEBHOOK_SECRETS is empty, so every webhook is refused."),
            hint=gettext('Add a credential; "manage.py cellcast_setup" generates one.'),
            id="cellcast_django.W001",
        )
    for position, entry in enumerate(value, start=1):
        where = gettext("Entry %(position)d of CELLCAST_WEBHOOK_SECRETS") % {"position": position}
        if not isinstance(entry, str) or _is_malformed(entry):
            yield Error(
                gettext("%(where)s is malformed, so it is ignored.") % {"where": where},
                hint=gettext(
                    'It must be a string "username:password", with both parts present, no '
                    "surrounding white space and no line breaks."
                ),
                id="cellcast_django.E002",
            )
        else:
            yield from _check_well_formed_credential(where, entry)


def _check_old_name() -> Messages:
    """Django hides settings by name, and this one has no word such as SECRET or PASS in it."""
    if hasattr(settings, "CELLCAST_WEBHOOK_CREDENTIALS"):
        yield Error(
            gettext(
                "CELLCAST_WEBHOOK_CREDENTIALS is no longer used, and Django shows its value in "
                "error mails and on debug pages."
            ),
            hint=gettext("Rename it to CELLCAST_WEBHOOK_SECRETS."),
            id="cellcast_django.E014",
        )


def _is_malformed(entry: str) -> bool:
    username, _, password = entry.partition(":")
    is_padded = (username, password) != (username.strip(), password.strip())
    return not is_credential(entry) or is_padded


def _check_well_formed_credential(where: str, entry: str) -> Messages:
    username, _, password = entry.partition(":")
    if entry.lower() in SAMPLES or re.fullmatch(r"<.*>", password):
        yield Error(
            gettext("%(where)s is a sample from the documentation, which anybody can read.")
            % {"where": where},
            hint=gettext('Use your own; "manage.py cellcast_setup" generates one.'),
            id="cellcast_django.E003",
        )
    elif _is_weak(password, username):
        yield Notice(
            gettext("%(where)s has a weak password.") % {"where": where},
            hint=gettext(
                "Use at least %(length)s random characters, not the username; "
                '"manage.py cellcast_setup" generates such a password.'
            )
            % {"length": MIN_PASSWORD_LENGTH},
            id="cellcast_django.W002",
        )
    if not entry.isascii():
        yield Notice(
            gettext("%(where)s has non-ASCII characters, which senders encode in different ways.")
            % {"where": where},
            hint=gettext(
                "Use letters and digits, or make sure that Test Send in Cellcast's dashboard works."
            ),
            id="cellcast_django.W003",
        )


def _is_weak(password: str, username: str) -> bool:
    return (
        len(password) < MIN_PASSWORD_LENGTH
        or len(set(password)) < MIN_DISTINCT_CHARACTERS
        or password.lower() == username.lower()
    )


def check_credentials_for_deployment(**_: Any) -> Messages:
    """A deployed site without a credential loses everything that Cellcast sends."""
    if not conf.webhook_secrets:
        yield Error(
            gettext("CELLCAST_WEBHOOK_SECRETS has no usable entry, so every webhook is refused."),
            hint=gettext('Add a credential; "manage.py cellcast_setup" generates one.'),
            id="cellcast_django.E004",
        )
