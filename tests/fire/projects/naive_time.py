"""Times without a zone."""

from tests.fire.host.settings import *  # noqa: F403

USE_TZ = False
