"""Every request is one transaction."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
