"""Write the rows of the version that is given, if one is, and the digests on this database."""

import json
import os
import sys

import django
from django.db import connection
from django.test.utils import setup_test_environment

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
setup_test_environment()

from tests.upgrades.shop import rows_of_a_shop  # noqa: E402  the settings come first
from tests.upgrades.test_upgrades import DIGESTS, FOLDER, digests  # noqa: E402

connection.creation.create_test_db(verbosity=0, autoclobber=True)
try:
    for version in sys.argv[1:]:
        assert connection.vendor == "sqlite", "The rows of a version are written on SQLite."
        (FOLDER / f"rows-{version}.json").write_text(rows_of_a_shop(), encoding="utf-8")
    known = json.loads(DIGESTS.read_text(encoding="utf-8")) if DIGESTS.exists() else {}
    found = {name: known.get(name, {}) | new for name, new in digests().items()}
    DIGESTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
finally:
    connection.creation.destroy_test_db("", verbosity=0)
