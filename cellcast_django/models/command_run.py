"""When each scheduled command last ran, and what it found."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connections, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.database.fields import DateTimeField
from cellcast_django.database.transactions import with_retries
from cellcast_django.models.base import FreshQuerySet, one_of
from cellcast_django.statuses import choice


class CommandRun(models.Model):
    """The last run of a scheduled command: one row per command."""

    class Command(models.TextChoices):
        RUN_HANDLERS = choice("run_handlers", "cellcast_run_handlers")
        RECOVER = choice("recover", "cellcast_recover")
        REPLY_MAIL = choice("reply_mail", _("mail about waiting replies"))

    if TYPE_CHECKING:
        id: int

    command = one_of(Command, _("command"), _("The command that ran."))
    ran_at = DateTimeField(_("ran at"), default=timezone.now, help_text=_("When it last ended."))
    summary: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(
        _("summary"),
        default=dict,
        blank=True,
        help_text=_("What it found: no number, name or text of a customer."),
    )

    objects: ClassVar[FreshQuerySet["CommandRun"]] = FreshQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("command run")
        verbose_name_plural = _("command runs")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["command"], name="cellcast_run_command")]

    def __str__(self) -> str:
        return self.command

    @classmethod
    def last(cls, command: Command) -> datetime | None:
        """Return when the command last ended; ``None`` if it never has."""
        return cls.objects.fresh().filter(command=command).values_list("ran_at", flat=True).first()

    @classmethod
    def last_summary(cls, command: Command) -> dict[str, Any]:
        """Return what its last run found; ``{}`` if it never has run."""
        runs = cls.objects.fresh().filter(command=command)
        return runs.values_list("summary", flat=True).first() or {}

    @classmethod
    def record(cls, command: Command, summary: dict[str, Any]) -> None:
        """Record that the command has just run, and what it found."""
        run = cls(command=command, ran_at=timezone.now(), summary=summary)

        def write(using: str) -> None:
            has_target = connections[using].features.supports_update_conflicts_with_target
            cls.objects.using(using).bulk_create(
                [run],
                update_conflicts=True,
                update_fields=["ran_at", "summary"],
                unique_fields=["command"] if has_target else None,  # MariaDB is told none
            )

        with_retries(write, using=cls.objects.fresh().db)
