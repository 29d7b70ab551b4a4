"""Who is doing something at this moment, and which forms have been sent."""

import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import CharField, DateTimeField
from cellcast_django.database.transactions import database_alias
from cellcast_django.models.base import FreshQuerySet

TICKET = re.compile(r"[\w-]{22}", re.ASCII)
"""A form is sent once to a customer: ``take(f"form {ticket} {contact}", TICKET_LASTS)``."""
TICKET_LASTS = timedelta(days=1)


def _digest(name: str) -> str:
    return salted_hmac("cellcast_django.claim", name, algorithm="sha256").hexdigest()


def new_ticket() -> str:
    """Return the ticket of a form."""
    return secrets.token_urlsafe(16)


class Claim(models.Model):
    """Something that one process alone may do: a row that others cannot add until it has ended."""

    if TYPE_CHECKING:
        id: int

    key = CharField(_("key"), max_length=64, help_text=_("A digest of what is claimed."))
    until = DateTimeField(_("until"), help_text=_("When the claim ends by itself."))

    objects: ClassVar[FreshQuerySet["Claim"]] = FreshQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("claim")
        verbose_name_plural = _("claims")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["key"], name="cellcast_claim_key")]

    def __str__(self) -> str:
        return f"claim {self.pk}"

    @classmethod
    def take(cls, name: str, lasts: timedelta) -> "Claim | None":
        """Claim something; ``None`` if somebody else has. Commits by itself."""
        claims, now = cls.objects.using(database_alias()), timezone.now()
        key = _digest(name)
        # Deleted by key: ``until`` has no index, so MariaDB would lock all claims.
        if ended := list(claims.filter(until__lte=now).values_list("pk", flat=True)):
            claims.filter(pk__in=ended).delete()
        try:
            with transaction.atomic(using=database_alias()):
                return claims.create(key=key, until=now + lasts)
        except IntegrityError:
            return None

    @classmethod
    def is_taken(cls, name: str) -> bool:
        """Whether somebody has claimed this, and the claim has not ended."""
        claims = cls.objects.fresh().filter(key=_digest(name), until__gt=timezone.now())
        return bool(claims.exists())

    @classmethod
    def end(cls, name: str) -> None:
        """End the claim of this name, whoever has taken it."""
        cls.objects.using(database_alias()).filter(key=_digest(name)).delete()

    def release(self) -> None:
        """End the claim, unless it has ended by itself: somebody else's has another row."""
        Claim.objects.using(database_alias()).filter(pk=self.pk).delete()
