"""A school's absence line, with two campuses and a queue, built from the pages alone."""

from pathlib import Path

import pytest

from tests.fresh_project import FreshProject
from tests.newcomers.following import follow, set_up, use_postgresql
from tests.newcomers.test_whole_loop import reply, shell

pytestmark = pytest.mark.newcomers

SCHOOL = Path(__file__).parent / "school"
NORTH = "+61480000001"
MISS = (
    "from shop.models import *; "
    f"ada = Pupil(name='Ada', own_number='{NORTH}', phone_number='0491 570 006'); ada.save(); "
    "Absence.objects.create(pupil=ada)"
)


@pytest.mark.parametrize("database", ["PostgreSQL", "SQLite"])
def test_school_asks_by_a_queue_and_exports_the_answer(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    project = FreshProject(tmp_path, "django>=6.1,<6.2", "django-tasks-db>=0.13")
    if database == "PostgreSQL":
        use_postgresql(project, request.getfixturevalue("port"))
    build(project)
    project.manage("test", "--settings=shop.settings_for_tests")

    with project.server() as url:
        shell(project, MISS)
        project.manage("follow_up")
        project.manage("db_worker", "--batch")
        reply(project, url, "Sick in bed", receiver=NORTH)
    assert project.manage("export_absences") == "North,Ada,,\n"
    project.manage("db_worker", "--batch")
    assert project.manage("export_absences") == "North,Ada,sick,\n"


def build(project: FreshProject) -> None:
    """Take what the pages say, and the school's own files."""
    (project.folder / "shop/management/commands").mkdir(parents=True)
    follow("docs/getting-started.md", project)
    follow("docs/sending.md", project, "shop/questions.py")
    command = "shop/management/commands/mail_teams.py"
    follow("docs/admin.md", project, "shop/teams.py", "shop/admin.py", command)
    for path in SCHOOL.rglob("*.py"):
        is_there = path.name in ("settings.py", "admin.py")
        write = project.append if is_there else project.write
        write(f"shop/{path.relative_to(SCHOOL)}", path.read_text())
    project.manage("makemigrations", "shop")
    set_up(project)
