"""The measured site as web servers want it: an object, by its name."""

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

wsgi = get_wsgi_application()
asgi = get_asgi_application()

# Django imports the URLs with the first request. A worker that accepts one while the load is still
# warming up would store it seconds later, in the middle of what is measured.
_ = get_resolver().url_patterns
