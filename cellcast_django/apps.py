"""The app's configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from cellcast_django.checks import register_checks


class CellcastDjangoConfig(AppConfig):
    """Registers the system checks."""

    name = "cellcast_django"
    verbose_name = _("Cellcast")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register_checks()
