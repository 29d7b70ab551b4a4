"""The host's models have other keys by default."""

from tests.stress.host.settings import *  # noqa: F403

DEFAULT_AUTO_FIELD = "django.db.models.SmallAutoField"
