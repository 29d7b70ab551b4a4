"""Every request is one transaction."""

from tests.fire.host.settings import *  # noqa: F403
from tests.fire.host.settings import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
