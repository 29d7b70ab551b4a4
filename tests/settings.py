"""The settings of the tests: the app alone, on the database that ``TEST_DATABASE_URL`` names.

Not ``DATABASE_URL``, which in a shell of yours may name a database that is in use.
"""

import os
import tempfile
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only-for-tests"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Australia/Sydney"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"

DATABASES = {
    "default": environ.Env.db_url_config(
        os.environ.get(
            "TEST_DATABASE_URL", f"sqlite:///{tempfile.gettempdir()}/cellcast-tests.sqlite3"
        )
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because threads that race each need a connection of their own.
    DATABASES["default"]["TEST"] = {
        "NAME": f"{tempfile.gettempdir()}/cellcast-tests-{os.getpid()}.sqlite3"
    }
    DATABASES["default"]["OPTIONS"] = {"timeout": 20}

if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["OPTIONS"] = {"options": "-c lock_timeout=2s"}  # as we recommend

if DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    DATABASES["default"]["OPTIONS"] = {  # as we recommend
        "init_command": "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2"
    }

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_tasks_db",
    "cellcast_django",
    "cellcast_django.desk",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}  # Django 6.1
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-long-enough-password"]
