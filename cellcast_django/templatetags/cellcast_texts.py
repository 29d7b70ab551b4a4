"""Filters for the texts of the admin's pages; none without the admin.

Django imports the tag libraries of all apps, whether a template of theirs is used or not.
"""

from importlib import import_module

from django.apps import apps
from django.template import Library

register = Library()

if apps.is_installed("django.contrib.admin"):
    texts = import_module("cellcast_django.admin.display.texts")
    for each in (texts.ago, texts.exact_seconds, texts.exact_time, texts.grouped):
        register.filter(each)
    for each in (texts.machine_time, texts.media_links, texts.readable_number):
        register.filter(each)
