"""A middleware looks into each body before the view does, and into the fields of a form."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import MIDDLEWARE

MIDDLEWARE = ["tests.stress.projects.middleware.read_the_body", *MIDDLEWARE]
