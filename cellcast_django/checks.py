"""System checks: which ones run when. ``diagnostics/checks`` has them, a file for each concern.

Only those with Django's tag ``database``, which ``migrate`` runs, open a database. The others are
run by ``manage.py check --tag cellcast_django --deploy``. No message shows a password.
"""

from django.core.checks import Tags, register

from cellcast_django.diagnostics.checks import (
    api,
    callables,
    credentials,
    databases,
    stop_words,
    tasks,
    urls,
    values,
)

TAG = "cellcast_django"

CHECKS = [
    credentials.check_credentials,
    values.check_default_region,
    values.check_numbers,
    values.check_run_handlers,
    values.check_public_url,
    stop_words.check_stop_words,
    callables.check_callables,
    api.check_api_key,
    api.check_api_url,
    tasks.check_task_backend,
    urls.check_urls,
]
DEPLOYMENT_CHECKS = [
    credentials.check_credentials_for_deployment,
    tasks.check_task_worker,
    urls.check_https,
    urls.check_redirects,
    databases.check_atomic_requests,
    databases.check_connections,
]
DATABASE_CHECKS = [databases.check_encoding]


def register_checks() -> None:
    """Register all checks with Django."""
    for check in CHECKS:
        register(check, TAG)
    for check in DEPLOYMENT_CHECKS:
        register(check, TAG, deploy=True)
    for check in DATABASE_CHECKS:
        register(check, Tags.database)  # not TAG: that must also run without a database
