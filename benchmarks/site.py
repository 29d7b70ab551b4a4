"""The settings of a site with its admin: ``BENCH_DATABASE`` is the database as JSON."""

import json
import os
from typing import Any

SECRET_KEY = "only-for-benchmarks"
ALLOWED_HOSTS = ["testserver"]
DEBUG = False
USE_TZ = True
TIME_ZONE = "Australia/Sydney"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "cellcast_django",
    "cellcast_django.desk",
]
ROOT_URLCONF = "benchmarks.site_urls"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
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
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}

CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-long-enough-password"]
