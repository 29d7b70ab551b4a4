"""What gunicorn and granian serve."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from cellcast_django.contacts import to_contact

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.stress.host.settings")
application = get_wsgi_application()

# What the first request would load: so the successor of a killed worker works at once.
_ = get_resolver().url_patterns
to_contact("0400000000", "AU")
