"""The example project, and handlers beside its own that note when they are called."""

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS, env

CELLCAST_API_URL = env.str("CELLCAST_API_URL", default="http://127.0.0.1:1")
INSTALLED_APPS = [*INSTALLED_APPS, "tests.stress.host"]
FIRE_HANDLERS = ["first", "second"]
FIRE_DEATHS = False
