"""The app's configuration."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CellcastDjangoConfig(AppConfig):
    """Registers the system checks."""

    name = "cellcast_django"
    verbose_name = _("Cellcast")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("cellcast_django.checks")  # they need the models, loaded by now
