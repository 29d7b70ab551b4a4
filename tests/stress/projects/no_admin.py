"""No admin, no users, no sessions: the app, and the handlers."""

from tests.stress.host.settings import *  # noqa: F403

INSTALLED_APPS = ["cellcast_django", "tests.stress.host"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = [  # as startproject writes them, without the context processors of what is not there
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "tests.stress.projects.no_admin_urls"
