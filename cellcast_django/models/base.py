"""What all models share: a QuerySet with ``fresh()``, and how columns hold numbers and names."""

from datetime import timedelta
from functools import partial
from typing import Any, Self, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router

from cellcast_django.database.fields import (
    CharField,
    ExactCharField,
    NullableDateTimeField,
    UnicodeTextField,
)
from cellcast_django.payloads import MAX_NUMBER_LENGTH, clean

if not apps.is_installed("cellcast_django"):  # of which Django would say "app_label"
    raise ImproperlyConfigured('"cellcast_django" is used, but is not in INSTALLED_APPS: add it.')

MAX_USERNAME_LENGTH = 255
MAX_ERROR_LENGTH = 1_000
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=6)
"""Before what has failed is tried again, the first time and later."""

M = TypeVar("M", bound=models.Model)


class FreshQuerySet(models.QuerySet[M, M]):
    """Rows that can be read where they are written."""

    def fresh(self) -> Self:
        """The same rows as they are now: from the database that is written to, past any cache."""
        rows = self.using(router.db_for_write(self.model))
        # Caches of the ORM leave alone what is read in order to write.
        rows._for_write = True  # type: ignore[attr-defined]
        return rows


def optional_time(verbose_name: Any, help_text: Any) -> NullableDateTimeField:
    """Return a column of times, any of which may be unknown."""
    return NullableDateTimeField(verbose_name, null=True, blank=True, help_text=help_text)


def optional_text(verbose_name: Any, help_text: Any) -> UnicodeTextField:
    """Return a column of texts of any length; any may be empty."""
    return UnicodeTextField(verbose_name, blank=True, help_text=help_text)


def optional_word(verbose_name: Any, help_text: Any, max_length: int) -> ExactCharField:
    """Return a column of texts that are compared exactly; any may be empty."""
    return ExactCharField(verbose_name, max_length=max_length, blank=True, help_text=help_text)


optional_number = partial(optional_word, max_length=MAX_NUMBER_LENGTH)
"""Phone numbers or names, as written or in E.164."""
optional_username = partial(optional_word, max_length=MAX_USERNAME_LENGTH)
"""Usernames, as ``username_of`` returns them."""


def one_of(
    choices: type[models.TextChoices], verbose_name: Any, help_text: Any, **options: Any
) -> CharField:
    """Return a column of these words: wide enough for longer ones of later releases."""
    return CharField(verbose_name, max_length=16, choices=choices, help_text=help_text, **options)


def username_of(username: object) -> str:
    """Return a username as our columns hold it: some user models have numbers for usernames."""
    return clean("" if username is None else str(username))[:MAX_USERNAME_LENGTH]


def error_of(error: BaseException) -> str:
    """Return an exception's type and text as our columns hold them."""
    try:
        text = str(error)
    except Exception:  # the host project's __str__ may do anything
        text = "(the exception has no readable text)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]
