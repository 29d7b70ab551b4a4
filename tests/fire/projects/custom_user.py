"""Users of the host's own make, with a UUID for a key and without migrations."""

from tests.fire.host.settings import *  # noqa: F403
from tests.fire.host.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.fire.projects.people"]
AUTH_USER_MODEL = "people.Person"
MIGRATION_MODULES = {"people": None}
