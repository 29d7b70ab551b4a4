"""The app's configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CellcastDjangoConfig(AppConfig):
    """Registers the system checks."""

    name = "cellcast_django"
    verbose_name = _("Cellcast")
    default_auto_field = "django.db.models.BigAutoField"
