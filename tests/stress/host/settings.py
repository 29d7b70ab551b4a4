"""The settings of the host project; ``FIRE_SETTINGS`` (JSON) changes any of them."""

import json
import os
from pathlib import Path

import environ

from tests.stress.host import clock

SECRET_KEY = "only-for-tests"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
TIME_ZONE = "Australia/Sydney"
ROOT_URLCONF = "tests.stress.host.urls"
WSGI_APPLICATION = "tests.stress.host.wsgi.application"
STATIC_URL = "static/"
STATIC_ROOT = Path(os.environ["FIRE_FOLDER"]) / "static"

DATABASES = {"default": environ.Env.db_url_config(os.environ["FIRE_DATABASE_URL"])}
DATABASES["default"]["CONN_MAX_AGE"] = 60
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    options = DATABASES["default"].setdefault("OPTIONS", {})
    options["options"] = f"{options.get('options', '')} -c lock_timeout=2s".strip()
if DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    DATABASES["default"].setdefault("OPTIONS", {})["init_command"] = (
        "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2"
    )
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 5,
        "transaction_mode": "IMMEDIATE",
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;"
        ),
    }

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "cellcast_django",
    "cellcast_django.desk",
    "tests.stress.host",
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
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s [%(process)d] %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-long-enough-password"]

FIRE_HANDLERS = ["first", "second"]
clock.install(Path(os.environ["FIRE_FOLDER"]) / "clock")  # before a model takes the function

globals().update(json.loads(os.environ.get("FIRE_SETTINGS", "{}")))
