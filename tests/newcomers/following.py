"""Following a page: what it says to install, and the files that it says to write."""

import re
import shlex

from tests.fresh_project import FreshProject
from tests.pages import ROOT, blocks

CLONE = "/path/to/cellcast-django"


CREATE_DATABASE = """
import psycopg
with psycopg.connect("host=127.0.0.1 user=postgres", autocommit=True) as server:
    server.execute("CREATE ROLE shop LOGIN CREATEDB")
    server.execute("CREATE DATABASE shop OWNER shop")
"""


def follow(page: str, project: FreshProject, *files: str) -> None:
    """Install what the page says, and write its files, or only those that are named."""
    for block in blocks(page, "sh"):
        command = shlex.split(block.code, comments=True)
        if command[:2] == ["pip", "install"]:
            project.install(*(each.replace(CLONE, str(ROOT)) for each in command[2:]))
    for block in blocks(page, "python"):
        file, _, where = block.first_line.removeprefix("# ").partition(", ")
        if files and file not in files:
            continue
        if file == "settings.py" or where == "at the end":
            project.append(f"shop/{file}", block.code)
        elif file == "urls.py":
            project.write("shop/urls.py", block.code)
        else:
            project.write(file, block.code)


def use_postgresql(project: FreshProject, port: int) -> None:
    """Give the project the settings of the page, and a database of its own on this server."""
    project.install("psycopg[binary]")
    [block] = [
        block
        for block in blocks("docs/database.md", "python")
        if "django.db.backends.postgresql" in block.code
    ]
    project.append("shop/settings.py", block.code)
    project.environment["PGPORT"] = str(port)  # which psycopg reads
    project.run("python", "-c", CREATE_DATABASE)


def set_up(project: FreshProject) -> None:
    """Make the tables, and put the password that ``cellcast_setup`` prints into the environment."""
    project.manage("migrate")
    line = r"^ *(CELLCAST_WEBHOOK_SECRETS)=(\S+)$"
    [(name, value)] = re.findall(line, project.manage("cellcast_setup"), re.MULTILINE)
    project.environment[name] = value
