"""The app's configuration."""

from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CellcastDjangoConfig(AppConfig):
    """Registers the system checks, and the accelerator if its folder is there."""

    name = "cellcast_django"
    verbose_name = _("Cellcast")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("cellcast_django.checks")  # they need the models, loaded by now
        if find_spec("cellcast_django.inbox.fast"):
            import_module("cellcast_django.inbox.fast")
