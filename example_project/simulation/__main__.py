"""Start the demo. Django reads the environment once, so all of it is set here."""

import os
import secrets
import sys
from argparse import ArgumentParser
from pathlib import Path
from urllib.parse import quote

import django

from example_project.simulation.server import HOST, DemoServer

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

parser = ArgumentParser(prog="python -m example_project.simulation", description=__doc__)
parser.add_argument("--check", action="store_true", help="verify what was stored, and exit")
parser.add_argument("--port", type=int, help="the port to listen on (default: 8000, or a free one)")
options = parser.parse_args()

try:
    server = DemoServer.listen(options.port)
except OSError as error:
    sys.exit(f"Cannot listen on port {options.port}: {error.strerror}.")

# Only one process owns a port, so only one uses the database named after it.
database = PROJECT_DIR / f"demo-{server.server_port}.sqlite3"

os.environ.update(
    DJANGO_SETTINGS_MODULE="example_project.settings",
    ALLOWED_HOSTS=HOST,
    CELLCAST_PUBLIC_URL=server.url,
    CELLCAST_SEND_WITH="cellcast_django.api.send_sms",
    CELLCAST_WEBHOOK_SECRETS=f"cellcast:{secrets.token_hex(16)}",
    DATABASE_URL=f"sqlite:///{quote(database.as_posix(), safe='/:')}",
    DEBUG="false",
    BEHIND_HTTPS_PROXY="false",
)
django.setup()

from example_project.simulation.show import run  # noqa: E402  the settings come first

sys.exit(run(server, database, check=options.check))
