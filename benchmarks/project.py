"""The settings of the measured site, the same for every variant but for what its name says.

``BENCH_DATABASE`` is the database as JSON, ``BENCH_VARIANT`` a name out of ``VARIANTS``.
"""

import json
import os

VARIANT = os.environ["BENCH_VARIANT"]

SECRET_KEY = "only-for-benchmarks"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
DEBUG = False
USE_TZ = True
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MIDDLEWARE = [  # what startproject writes
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    "cellcast_django",
    "benchmarks",
]
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}

CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-long-enough-password"]
if VARIANT == "task":
    CELLCAST_RUN_HANDLERS = "default"
    TASKS = {"default": {"BACKEND": "benchmarks.tasks.ForgetfulBackend"}}
