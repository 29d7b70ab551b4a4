"""An e-mail to those who answer: replies are waiting."""

import logging
from contextlib import suppress
from datetime import timedelta

from django.core.mail import send_mail
from django.db.models import Count, Max
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _, ngettext

from cellcast_django.conf import conf
from cellcast_django.models import Claim, CommandRun, Message

logger = logging.getLogger("cellcast_django")

PAUSE = timedelta(minutes=15)


def mail_waiting_replies() -> None:
    """Tell ``CELLCAST_MAIL_REPLIES_TO`` that replies wait, if one came after the last mail.

    At most once in 15 minutes; of two runs at once, one sends. A mail that fails is logged, and
    tried by the next run. May raise ``django.db.Error``.
    """
    if not conf.mail_replies_to:
        return
    told = CommandRun.last_summary(CommandRun.Command.REPLY_MAIL).get("newest", 0)
    waiting = Message.objects.fresh().unhandled().aggregate(count=Count("pk"), newest=Max("pk"))
    # By the key: a reply that recovery has found is new, however long ago it was written.
    if waiting["count"] == 0 or waiting["newest"] <= told:
        return
    claim = Claim.take("mail about waiting replies", PAUSE)
    if claim is None:  # another run is at it, or was less than 15 minutes ago
        return
    try:
        _send(waiting["count"])
    except Exception as error:  # a mail backend may raise anything
        logger.error("The mail about waiting replies failed: %s.", type(error).__qualname__)
        claim.release()
        return
    CommandRun.record(CommandRun.Command.REPLY_MAIL, {"newest": waiting["newest"]})


def _send(count: int) -> None:
    """Send the mail. It has no number, name or text: mail is read anywhere."""
    subject = ngettext(
        "%(count)d reply is waiting for an answer",
        "%(count)d replies are waiting for an answer",
        count,
    ) % {"count": count}
    lines = [subject + ".", _address(), _("There is no further mail until another reply comes.")]
    send_mail(subject, "\n\n".join(filter(None, lines)), None, conf.mail_replies_to)


def _address() -> str:
    """Return where the replies are: on the desk's page, or in the admin's list, if anywhere."""
    if not conf.public_url:
        return ""
    for page in ("to_answer", "changelist"):
        with suppress(NoReverseMatch):
            return conf.public_url + reverse(f"admin:cellcast_django_message_{page}")
    return ""
