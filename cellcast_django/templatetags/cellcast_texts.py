"""Filters and a tag for the texts of the admin's pages; without the admin there is only the tag.

Django imports the tag libraries of all apps, whether a template of theirs is used or not.
"""

from importlib import import_module

from django.apps import apps
from django.template import Library
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext

register = Library()

if apps.is_installed("django.contrib.admin"):
    texts = import_module("cellcast_django.admin.display.texts")
    for each in (texts.ago, texts.exact_seconds, texts.exact_time, texts.grouped):
        register.filter(each)
    for each in (texts.machine_time, texts.media_links, texts.readable_number):
        register.filter(each)


@register.simple_tag
def cellcast_language() -> SafeString:
    """Return the attributes of our English texts on a page that may be written right to left."""
    is_translated = gettext("To answer") != "To answer"
    is_english = (get_language() or "en").partition("-")[0] == "en"
    return SafeString("" if is_translated or is_english else ' lang="en" dir="ltr"')
