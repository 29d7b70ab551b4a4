"""A second admin site, under another name."""

from tests.fire.host.settings import *  # noqa: F403

ROOT_URLCONF = "tests.fire.projects.two_admin_sites_urls"
