"""No admin, no users, no sessions: the app, and the handlers."""

from tests.fire.host.settings import *  # noqa: F403

INSTALLED_APPS = ["cellcast_django", "tests.fire.host"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = []
ROOT_URLCONF = "tests.fire.projects.no_admin_urls"
