"""Every URL begins with a language, and the site speaks German."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import MIDDLEWARE

USE_I18N = True
LANGUAGE_CODE = "de"
LANGUAGES = [("de", "Deutsch"), ("en", "English")]
MIDDLEWARE = [*MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
ROOT_URLCONF = "tests.stress.projects.translated_urls_urls"
