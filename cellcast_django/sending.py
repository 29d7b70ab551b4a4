"""Send an SMS through the host project's own function, and record it.

The function is ``CELLCAST_SEND_WITH``: this app makes no request to Cellcast's send API itself.
"""

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.utils.module_loading import import_string
from phonenumbers import PhoneNumber

from cellcast_django.conf import conf
from cellcast_django.models import Message, outgoing_parts
from cellcast_django.opt_outs import is_opted_out


class OptedOutError(Exception):
    """The contact has opted out, so nothing was sent."""


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

    Raises ``OptedOutError`` if the contact has opted out, and ``TypeError`` or ``ValueError`` for
    what could not be recorded; nothing has been sent then. Exceptions of your function come through
    as they are. Raises ``NotRecordedError`` if it returned neither a non-empty string nor an
    integer, or if the database refused. Raises ``ImproperlyConfigured`` without the setting.
    """
    if not conf.send_with:
        raise ImproperlyConfigured("CELLCAST_SEND_WITH names no function to send with.")
    send_with = import_string(conf.send_with)
    parts = outgoing_parts(
        receiver=receiver, sender=sender, body=body, reference=reference, answers=answers
    )
    if is_opted_out(parts["receiver"]):
        raise OptedOutError("The contact has opted out, so nothing was sent.")
    cellcast_id = send_with(parts["receiver"], parts["body"], parts["sender"])
    try:
        return Message.objects.record_sent(cellcast_id, **parts, answers=answers, username=username)
    except (TypeError, ValueError) as error:
        problem = str(error)
    except Error as error:  # whose text may quote the row
        problem = type(error).__qualname__
    # Outside the except block, so that it does not carry the database's error along.
    raise NotRecordedError(f"The SMS may have gone, but it could not be recorded: {problem}")
