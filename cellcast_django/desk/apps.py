"""The configuration of the desk."""

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class CellcastDeskConfig(AppConfig):
    """It shows the models of ``cellcast_django``, and has none of its own but a door to them."""

    name = "cellcast_django.desk"
    label = "cellcast_desk"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = _("Cellcast desk")

    def import_models(self) -> None:
        """Refuse to start alone: from here on, Django knows all installed apps."""
        for name, why in (
            ("cellcast_django", 'shows what "cellcast_django" stores'),
            ("django.contrib.admin", 'has its pages in "django.contrib.admin"'),
        ):
            if not apps.is_installed(name):
                raise ImproperlyConfigured(
                    f'"cellcast_django.desk" {why}: add that to INSTALLED_APPS, or remove the desk.'
                )
        super().import_models()
