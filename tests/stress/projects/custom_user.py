"""Users of the host's own make, with a UUID for a key and without migrations."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.stress.projects.people"]
AUTH_USER_MODEL = "people.Person"
MIGRATION_MODULES = {"people": None}
