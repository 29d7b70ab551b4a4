"""The desk's one model, which is a door: Django's front page lists models."""

from django.utils.translation import gettext_lazy as _

from cellcast_django.models import Message


class ToAnswer(Message):
    """*To answer*, for those who may view messages; it has no permissions of its own."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("customer to answer")
        verbose_name_plural = _("to answer")
