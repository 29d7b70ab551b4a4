"""An API of the host's own, all of whose policies are other ones."""

from tests.stress.host.settings import *  # noqa: F403

POLICIES = "tests.stress.projects.policies"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.MultiPartParser"],
    "DEFAULT_RENDERER_CLASSES": [f"{POLICIES}.ShoutingRenderer"],
    "DEFAULT_THROTTLE_CLASSES": [f"{POLICIES}.NothingAtAll"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": f"{POLICIES}.NoNegotiation",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_METADATA_CLASS": None,
    "ALLOWED_VERSIONS": ["7.0"],
    "DEFAULT_VERSION": "7.0",
    "EXCEPTION_HANDLER": f"{POLICIES}.always_a_teapot",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "NON_FIELD_ERRORS_KEY": "oops",
}
