"""Every page asks for a login, unless its view says otherwise."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import MIDDLEWARE

MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
LOGIN_URL = "/admin/login/"
