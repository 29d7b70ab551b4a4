"""The settings of the example project, read from the environment or a ``.env`` file.

Without either it runs, and is safe: SQLite, no debug mode, and every webhook is refused.
"""

import os
from pathlib import Path
from urllib.parse import quote

import environ
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
# A random key ends all sessions at a restart: set your own, above all with several processes.
# Not read by django-environ, to which a leading "$" is the name of another variable.
SECRET_KEY = os.environ.get("SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Cellcast: https://developer.cellcast.com/getting-started/setup-webhook.html
# CELLCAST_WEBHOOK_SECRETS=username:password, or two of them separated by a space while you change
# the password. `manage.py cellcast_setup` generates one, and says where to paste it.
CELLCAST_WEBHOOK_SECRETS = env.str("CELLCAST_WEBHOOK_SECRETS", default="").split()
CELLCAST_PUBLIC_URL = env.str("CELLCAST_PUBLIC_URL", default="")
# With a key, `manage.py cellcast_recover` fetches what no webhook delivered; and with
# CELLCAST_SEND_WITH=cellcast_django.api.send_sms, reminders and the answers of staff are sent. Only
# with DEBUG is that pretended without being asked for: a server that pretends texts nobody.
# To try it without an account, set the three that `manage.py cellcast_simulate` prints.
CELLCAST_API_URL = env.str("CELLCAST_API_URL", default="https://api.cellcast.com")
CELLCAST_API_KEY = env.str("CELLCAST_API_KEY", default="")
CELLCAST_SEND_WITH = env.str(
    "CELLCAST_SEND_WITH", default="cellcast_django.testing.pretend_to_send" if DEBUG else ""
)
# The admin shows the names of phone numbers, and finds them by these.
CELLCAST_DIRECTORY = "example_project.appointments.names.Customers"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "cellcast_django",
    "cellcast_django.desk",
    "example_project.appointments",
]

if not env.bool("DESK", default=True):  # to see the admin as it is without those pages
    INSTALLED_APPS.remove("cellcast_django.desk")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
STATIC_URL = "static/"

EMBEDDED_DATABASE_URL = f"sqlite:///{quote((BASE_DIR / 'db.sqlite3').as_posix(), safe='/:')}"
DATABASES = {"default": env.db("DATABASE_URL", default=EMBEDDED_DATABASE_URL)}
# A burst of a thousand delivery reports should not open a thousand connections.
DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Webhooks arrive concurrently. With WAL, readers do not wait for writers; a transaction that
    # takes the write lock at its start never gets "database is locked" half-way. The log is copied
    # into the database every 8,000 pages instead of 1,000, because most are the same pages again.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;"
        ),
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A database server that does not respond should not hold a webhook for minutes.
    DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 2
    # Nor should a lock hold this project's own code; webhooks have a limit of their own.
    if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        DATABASES["default"]["OPTIONS"].setdefault("options", "-c lock_timeout=2s")
    if DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
        DATABASES["default"]["OPTIONS"].setdefault(
            "init_command", "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2"
        )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-au"
TIME_ZONE = env.str("TIME_ZONE", default="Australia/Sydney")
USE_TZ = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Behind a proxy that terminates TLS and sets X-Forwarded-Proto itself
if env.bool("BEHIND_HTTPS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
