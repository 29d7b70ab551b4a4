"""For processes that show no pages: without the admin they start in two thirds of the time."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as APPS

INSTALLED_APPS = [
    app for app in APPS if app not in ("django.contrib.admin", "cellcast_django.desk")
]
