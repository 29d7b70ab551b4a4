"""Following a page: what it says to install, and the files that it says to write."""

import re
import shlex

from tests.fresh_project import FreshProject
from tests.pages import ROOT, blocks

CLONE = "/path/to/cellcast-django"


def follow(page: str, project: FreshProject) -> None:
    """Install what the page says, and write its files."""
    for block in blocks(page, "sh"):
        command = shlex.split(block.code, comments=True)
        if command[:2] == ["pip", "install"]:
            project.install(*(each.replace(CLONE, str(ROOT)) for each in command[2:]))
    for block in blocks(page, "python"):
        file, _, where = block.first_line.removeprefix("# ").partition(", ")
        if file == "settings.py" or where == "at the end":
            project.append(f"shop/{file}", block.code)
        elif file == "urls.py":
            project.write("shop/urls.py", block.code)
        else:
            project.write(file, block.code)


def set_up(project: FreshProject) -> None:
    """Make the tables, and put the password that ``cellcast_setup`` prints into the environment."""
    project.manage("migrate")
    line = r"^ *(CELLCAST_WEBHOOK_SECRETS)=(\S+)$"
    [(name, value)] = re.findall(line, project.manage("cellcast_setup"), re.MULTILINE)
    project.environment[name] = value
