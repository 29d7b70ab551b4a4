"""Send an SMS through the function that ``CELLCAST_SEND_WITH`` names, and record it."""

import logging

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.utils.module_loading import import_string
from phonenumbers import PhoneNumber

from cellcast_django.api import NotSentError, OptedOutError
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.models import Message, outgoing_parts
from cellcast_django.opt_outs import is_opted_out, opt_out_as_listed

__all__ = ["NotRecordedError", "NotSentError", "OptedOutError", "send"]

logger = logging.getLogger("cellcast_django")


class NotRecordedError(Exception):
    """The SMS may have gone, but it could not be recorded: look before you send it again.

    Holds neither the number nor the text.
    """


def send(
    receiver: str | PhoneNumber,
    body: str,
    *,
    sender: str | PhoneNumber = "",
    reference: str = "",
    answers: Message | None = None,
    username: str = "",
) -> Message:
    """Send an SMS with ``CELLCAST_SEND_WITH``, record it, and return the message.

    The arguments are those of ``Message.objects.record_sent``. Never retries, and is not
    idempotent: each call that returns has sent.

    Nothing has been sent if it raises ``OptedOutError``, ``NotSentError``, ``TypeError`` or
    ``ValueError`` (for a blank text, or what could not be recorded), or, without the setting,
    ``ImproperlyConfigured``. After anything else the SMS may have gone: other exceptions of your
    function come through as they are, a ``ValueError`` too, and ``NotRecordedError`` says that it
    returned neither a non-empty string nor an integer, or that the database refused.

    If your function raises ``OptedOutError``, the contact's opt-out begins, without a signal; a
    rollback of yours undoes it.
    """
    if not conf.send_with:
        raise ImproperlyConfigured('Set CELLCAST_SEND_WITH, e.g. "cellcast_django.api.send_sms".')
    send_with = import_string(conf.send_with)
    parts = outgoing_parts(
        receiver=receiver, sender=sender, body=body, reference=reference, answers=answers
    )
    if not parts["body"].strip():
        raise ValueError("body is empty.")
    contact = to_contact(parts["receiver"])
    if is_opted_out(contact):
        raise OptedOutError
    try:
        cellcast_id = send_with(
            contact, parts["body"], parts["sender"], reference=parts["reference"]
        )
    except OptedOutError as error:
        _store_opt_out(contact, str(error.reason or ""))
        raise
    try:
        return Message.objects.record_sent(cellcast_id, **parts, answers=answers, username=username)
    except (TypeError, ValueError) as error:
        problem = str(error)
    except Error as error:  # whose text may quote the row
        problem = type(error).__qualname__
    # Outside the except block, so that it does not carry the database's error along.
    raise NotRecordedError(f"The SMS may have gone, but it could not be recorded: {problem}")


def _store_opt_out(contact: str, reason: str) -> None:
    """Store one that Cellcast knows; if that fails, Cellcast refuses the next SMS too."""
    try:
        opt_out_as_listed(contact, reason)
    except Error as error:
        logger.error(
            "An opt-out that Cellcast knows could not be stored: %s.", type(error).__qualname__
        )
