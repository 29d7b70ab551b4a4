"""The host's URLs, each behind a language."""

from django.conf.urls.i18n import i18n_patterns

from tests.stress.host import urls

urlpatterns = i18n_patterns(*urls.urlpatterns)
