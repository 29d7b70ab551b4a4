"""A middleware looks into each body before the view does, and into the fields of a form."""

from tests.fire.host.settings import *  # noqa: F403
from tests.fire.host.settings import MIDDLEWARE

MIDDLEWARE = ["tests.fire.projects.middleware.read_the_body", *MIDDLEWARE]
