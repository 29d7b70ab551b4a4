"""System checks: which ones run when. ``diagnostics/checks`` has them, a file for each concern.

Only those with Django's tag ``database``, which ``migrate`` runs, open a database. The others are
run by ``manage.py check --tag cellcast_django --deploy``. No message shows a password.
"""

from django.core.checks import Tags, register

from cellcast_django.diagnostics.checks.api import check_api_key, check_api_url
from cellcast_django.diagnostics.checks.callables import check_callables
from cellcast_django.diagnostics.checks.credentials import (
    check_credentials,
    check_credentials_for_deployment,
)
from cellcast_django.diagnostics.checks.databases import (
    check_atomic_requests,
    check_connections,
    check_encoding,
)
from cellcast_django.diagnostics.checks.stop_words import check_stop_words
from cellcast_django.diagnostics.checks.tasks import check_task_backend, check_task_worker
from cellcast_django.diagnostics.checks.urls import check_https, check_redirects, check_urls
from cellcast_django.diagnostics.checks.values import (
    check_announce_via,
    check_default_region,
    check_numbers,
    check_public_url,
    is_base_url,
)

__all__ = [
    "CHECKS",
    "DATABASE_CHECKS",
    "DEPLOYMENT_CHECKS",
    "TAG",
    "check_announce_via",
    "check_api_key",
    "check_api_url",
    "check_atomic_requests",
    "check_callables",
    "check_connections",
    "check_credentials",
    "check_credentials_for_deployment",
    "check_default_region",
    "check_encoding",
    "check_https",
    "check_numbers",
    "check_public_url",
    "check_redirects",
    "check_stop_words",
    "check_task_backend",
    "check_task_worker",
    "check_urls",
    "is_base_url",
    "register_checks",
]

TAG = "cellcast_django"

CHECKS = [
    check_credentials,
    check_default_region,
    check_numbers,
    check_announce_via,
    check_public_url,
    check_stop_words,
    check_callables,
    check_api_key,
    check_api_url,
    check_task_backend,
    check_urls,
]
DEPLOYMENT_CHECKS = [
    check_credentials_for_deployment,
    check_task_worker,
    check_https,
    check_redirects,
    check_atomic_requests,
    check_connections,
]
DATABASE_CHECKS = [check_encoding]


def register_checks() -> None:
    """Register all checks with Django."""
    for check in CHECKS:
        register(check, TAG)
    for check in DEPLOYMENT_CHECKS:
        register(check, TAG, deploy=True)
    for check in DATABASE_CHECKS:
        register(check, Tags.database)  # not TAG: whoever runs that may have no database
