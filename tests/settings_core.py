"""The app without its desk: everything else works the same."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as APPS

INSTALLED_APPS = [app for app in APPS if app != "cellcast_django.desk"]
