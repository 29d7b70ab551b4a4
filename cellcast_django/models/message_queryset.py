"""The QuerySet of messages: what people ask for, ``record_sent``, and the lock on their rows."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import models, router, transaction
from django.utils import timezone

from cellcast_django.database.inserts import insert_or_lock
from cellcast_django.models.message_identity import Direction, contact_of
from cellcast_django.payloads import MAX_ID_LENGTH, MAX_NUMBER_LENGTH, clean
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

if TYPE_CHECKING:
    from cellcast_django.models.message import Message


class _Literal(models.Func):
    """Text inlined into the statement: SQLite uses a partial index only if it sees the value."""

    def __init__(self, text: str) -> None:
        super().__init__(template=f"'{text}'", output_field=models.CharField())


IS_UNHANDLED = models.Q(direction=_Literal(Direction.INBOUND.value), handled_at__isnull=True)


class MessageQuerySet(models.QuerySet["Message", "Message"]):
    """Messages by direction, by outcome and by contact."""

    def inbound(self) -> Self:
        """Replies: messages that customers sent you."""
        return self.filter(direction=Direction.INBOUND)

    def outbound(self) -> Self:
        """Messages you sent."""
        return self.filter(direction=Direction.OUTBOUND)

    def delivered(self) -> Self:
        """Messages you sent that arrived."""
        return self.outbound().filter(status=Status.DELIVERED)

    def undelivered(self) -> Self:
        """Messages you sent that have a final status other than delivered."""
        return self.outbound().filter(status__in=UNDELIVERED)

    def pending(self) -> Self:
        """Messages you sent that have no final status yet."""
        return self.outbound().exclude(status__in=FINAL)

    def unhandled(self) -> Self:
        """Replies nobody has handled yet, except those of contacts who have opted out."""
        opt_out: Any = apps.get_model("cellcast_django", "OptOut")  # opt_out.py imports this module
        active = opt_out.objects.active().filter(contact=models.OuterRef("contact"))
        return self.filter(IS_UNHANDLED).exclude(models.Exists(active))

    def silent(self, older_than: timedelta) -> Self:
        """Messages you sent longer ago than this, with no report so far.

        Only rows made by ``record_sent`` can be silent: all others were made by a report.
        """
        return self.outbound().filter(status="", created_at__lte=timezone.now() - older_than)

    def from_tests(self) -> Self:
        """Messages that exist only because of our own Test Sends, and that you did not record."""
        event: Any = apps.get_model("cellcast_django", "WebhookEvent")  # it imports this module
        events = event.objects.using(self.db)
        tested = events.filter(is_test=True).exclude(message=None)
        keys = list(tested.values_list("message_id", flat=True).distinct())
        real = events.filter(message=models.OuterRef("pk"), is_test=False)
        is_made_here = models.Q(direction=Direction.INBOUND) | models.Q(body="")
        return self.filter(is_made_here, ~models.Exists(real), pk__in=keys)

    def with_contact(self, number: str) -> Self:
        """Messages from and to one customer, in any spelling of the number."""
        contact = contact_of(number)
        return self.filter(contact=contact) if contact else self.none()

    def record_sent(
        self,
        cellcast_id: str,
        *,
        receiver: str,
        sender: str = "",
        body: str = "",
        answers: "Message | None" = None,
    ) -> "Message":
        """Record a message you have just sent, by the id in the send API's response.

        Idempotent. If a delivery report came first and made the row, that row is adopted, and your
        values overwrite the report's, so that no report can file your text under another number.
        ``answers`` is the reply that this message answers; it is marked as handled. Raises
        ``ValueError`` for an empty id or receiver, for anything too long, and if ``answers`` is not
        a reply.
        """
        sent = self.model.from_parts(
            Direction.OUTBOUND,
            cellcast_id=_checked("cellcast_id", cellcast_id, MAX_ID_LENGTH, required=True),
            sender=_checked("sender", sender, MAX_NUMBER_LENGTH),
            receiver=_checked("receiver", receiver, MAX_NUMBER_LENGTH, required=True),
            body=clean(str(body)),
        )
        using = self._db or router.db_for_write(self.model)  # type: ignore[attr-defined]
        with transaction.atomic(using=using):
            message = self.model.objects.using(using).lock([sent]).get()
            if overwritten := message.overwrite_from(sent):
                message.save(using=using, update_fields=overwritten)
            if answers is not None:
                answers.mark_handled()
        return message

    def lock(self, messages: Iterable["Message"]) -> Self:
        """Insert the messages that have no row yet, lock all their rows, and return them.

        Must be the first statement of a transaction. Writes before it reads, in the order of the
        keys: anything else ends in "database is locked" on SQLite and in deadlocks elsewhere.
        """
        by_key = {message.key: message for message in messages}
        in_order = [by_key[key] for key in sorted(by_key)]
        insert_or_lock(self.db, in_order, unique="key")
        return self.filter(key__in=by_key)


def _checked(name: str, value: Any, limit: int, *, required: bool = False) -> str:
    text = "" if value is None else clean(str(value))
    if required and not text.strip():
        raise ValueError(f"{name} is empty.")
    if len(text) > limit:
        raise ValueError(f"{name} is longer than {limit} characters.")
    return text
