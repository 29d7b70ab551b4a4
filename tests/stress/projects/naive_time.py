"""Times without a zone."""

from tests.stress.host.settings import *  # noqa: F403

USE_TZ = False
