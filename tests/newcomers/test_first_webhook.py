"""A newcomer follows a page, block by block, in a fresh project and an empty environment."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.fresh_project import FreshProject
from tests.newcomers.following import follow, set_up
from tests.pages import text_of

pytestmark = pytest.mark.newcomers


def run_by_cron(project: FreshProject) -> str:
    """Run the line that the documentation gives to cron, and return what cron would mail."""
    text = text_of("docs/deployment.md")
    [command] = re.findall(r"^\* \* \* \* \* +(.+)$", text, re.MULTILINE)
    command = command.replace("/srv/shop", str(project.folder))
    command = command.replace(".venv/bin/", f"{project.bin}/")
    result = subprocess.run(
        ["sh", "-c", command],
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("page", "django"),
    [
        ("README.md", "django>=5.2,<5.3"),
        ("README.md", "django>=6.1,<6.2"),
        ("docs/getting-started.md", "django>=6.1,<6.2"),
    ],
)
def test_newcomer_receives_the_first_webhook(page: str, django: str, tmp_path: Path) -> None:
    project = FreshProject(tmp_path, django)
    follow(page, project)
    set_up(project)

    with project.server() as url:
        output = project.manage("cellcast_test_send", "receive", "--url", url)
    assert "stored" in output

    stored = project.manage(
        "shell",
        "--verbosity=0",
        "--command",
        "from cellcast_django.models import Message; print(Message.objects.get().contact)",
    )
    assert stored.strip() == "+61400000000"

    name = "CELLCAST_WEBHOOK_SECRETS"
    project.write("environment", f'{name}="{project.environment[name]}"\n')
    assert run_by_cron(project) == ""
    if page == "docs/getting-started.md":
        assert "Reply 1 has 21 characters" in (project.folder / "server.log").read_text()
