"""The configuration of the desk."""

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class CellcastDeskConfig(AppConfig):
    """It shows the models of ``cellcast_django``, and has none of its own but a door to them."""

    name = "cellcast_django.desk"
    label = "cellcast_desk"
    verbose_name = _("Cellcast desk")

    def import_models(self) -> None:
        """Refuse to start alone: from here on, Django knows all installed apps."""
        if not apps.is_installed("cellcast_django"):
            raise ImproperlyConfigured(
                '"cellcast_django.desk" shows what "cellcast_django" stores: add that to '
                "INSTALLED_APPS too."
            )
        super().import_models()
