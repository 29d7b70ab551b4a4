"""No admin, no users, no sessions: the app, and the handlers."""

from tests.stress.host.settings import *  # noqa: F403

INSTALLED_APPS = ["cellcast_django", "tests.stress.host"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = []
ROOT_URLCONF = "tests.stress.projects.no_admin_urls"
