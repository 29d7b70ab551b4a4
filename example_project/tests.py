"""The settings without an environment."""

import os
import runpy
from unittest import mock

from django.test import SimpleTestCase

from example_project import settings


class SettingsTests(SimpleTestCase):
    """The settings, read with an empty environment."""

    def test_secret_key_from_the_environment_may_start_with_a_dollar_sign(self) -> None:
        with mock.patch.dict(os.environ, {"SECRET_KEY": "$abcdefghij"}):
            read = runpy.run_path(settings.__file__)
        self.assertEqual(read["SECRET_KEY"], "$abcdefghij")

    def test_random_secret_key_may_start_with_a_dollar_sign(self) -> None:
        with (
            mock.patch.dict(os.environ),
            mock.patch("django.core.management.utils.get_random_secret_key", return_value="$x"),
        ):
            os.environ.pop("SECRET_KEY", None)
            read = runpy.run_path(settings.__file__)
        self.assertEqual(read["SECRET_KEY"], "$x")
