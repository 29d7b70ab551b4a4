"""The app has a database of its own; no webhook may ask the other one."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import DATABASES, MIDDLEWARE, STATIC_ROOT

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATIC_ROOT.with_name("default.sqlite3"),
    },
    "sms": DATABASES["default"],
}
DATABASE_ROUTERS = ["tests.stress.projects.routers.SmsRouter"]
MIDDLEWARE = ["tests.stress.projects.middleware.forbid_the_default_database", *MIDDLEWARE]
