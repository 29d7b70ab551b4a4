"""The app's configuration."""

from django.apps import AppConfig


class AppointmentsConfig(AppConfig):
    """Connects the signal handlers."""

    name = "example_project.appointments"

    def ready(self) -> None:
        from example_project.appointments import handlers  # noqa: F401  importing connects
