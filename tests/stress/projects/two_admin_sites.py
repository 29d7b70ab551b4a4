"""A second admin site, under another name."""

from tests.stress.host.settings import *  # noqa: F403

ROOT_URLCONF = "tests.stress.projects.two_admin_sites_urls"
