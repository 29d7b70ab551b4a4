"""A host project made of the documentation: its modules and settings are the blocks of a page."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.pages import blocks
from tests.stress.databases import Database
from tests.stress.hosts import ROOT, Host, wait_for

PAGE = "docs/queues.md"
DATABASE_QUEUE: tuple[str, ...] = ("django_tasks_db.DatabaseBackend",)
SCHEDULING_QUEUE: tuple[str, ...] = ("django_ox.backend.OxBackend",)
CELERY: tuple[str, ...] = ("django_tasks_celery.CeleryBackend",)
CELERY_WITHOUT_A_PACKAGE = (*CELERY, "shop.tasks.CeleryBackend")
"""What finds the blocks of settings, the later one changing what the first has set."""
SCHEDULES = 'TASKS["default"]["OPTIONS"]["SCHEDULES"]'
CELERY_MODULE = """
from celery import Celery

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""


@dataclass(frozen=True)
class Shop(Host):
    """The project; its queue's settings are those blocks of the page that name these backends."""

    project: str = "shop.settings"
    queue: tuple[str, ...] = DATABASE_QUEUE
    broker_url: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "PYTHONPATH": str(self.folder),
            "CELERY_BROKER_URL": self.broker_url,
        }

    @property
    def is_celery(self) -> bool:
        """Whether the workers are Celery's."""
        return self.queue not in (DATABASE_QUEUE, SCHEDULING_QUEUE)

    def write(self) -> None:
        """Write the modules that the page shows, and the settings."""
        package = self.folder / "shop"
        package.mkdir()
        parts = [
            "from tests.stress.host.settings import *",
            'INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db", "django_ox"]',
            *(settings_that_name(backend) for backend in self.queue),
        ]
        if self.is_celery:
            (package / "__init__.py").write_text("from shop.celery import app\n")
            (package / "celery.py").write_text(CELERY_MODULE)
            if self.queue == CELERY_WITHOUT_A_PACKAGE:
                parts.append('INSTALLED_APPS = [*INSTALLED_APPS, "shop"]')
                [block] = [each for each in blocks(PAGE, "python") if "shop/tasks" in each.code]
                (package / "tasks.py").write_text(block.code)
            parts.append('CELERY_BEAT_SCHEDULE["run-handlers"]["schedule"] = 2')
        if self.queue == SCHEDULING_QUEUE:
            parts.append(f"{SCHEDULES} = {{'run-handlers': {SCHEDULES}['run-handlers']}}")
            parts.append(f'{SCHEDULES}["run-handlers"]["every"] = 2')
        (package / "settings.py").write_text("\n\n".join(parts) + "\n")

    def start_workers(self, count: int) -> list[subprocess.Popen[bytes]]:
        """Start workers, each a single process, and wait until they are ready."""
        command: tuple[str, ...]
        for number in range(count):
            if self.is_celery:
                options = (f"--hostname=worker{number}@localhost", "--loglevel=INFO")
                quiet = ("--pool=solo", "--without-gossip", "--without-mingle")
                command = ("celery", "-A", "shop", "worker", *options, *quiet)
            elif self.queue == SCHEDULING_QUEUE:
                command = ("django", "ox_worker", "--interval=0.2", "--verbosity=0")
            else:
                command = ("django", "db_worker", "--interval=0.2", "--no-startup-delay")
            self.started.append(self.start(*command))
        ready = {DATABASE_QUEUE: "Starting worker", SCHEDULING_QUEUE: "starting: queues"}.get(
            self.queue, "@localhost ready."
        )
        wait_for(lambda: self.log.count(ready) == count, seconds=60)
        return self.started

    def stop_workers(self) -> None:
        """Stop whatever was started, as a restart of the host would."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def schedule(self) -> Iterator[None]:
        """Run every two seconds what is due: by Celery's beat, the workers, or the command."""
        if self.queue == SCHEDULING_QUEUE:
            yield
            return
        if self.is_celery:
            file = f"--schedule={self.folder / 'beat'}"
            command = [sys.executable, "-m", "celery", "-A", "shop", "beat", file]
        else:
            run = f"{sys.executable} -m django cellcast_run_handlers"
            command = ["sh", "-c", f"while sleep 2; do {run}; done"]
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, process_group=0
            )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # what the shell has begun, too
            process.wait(timeout=10)


def settings_that_name(backend: str) -> str:
    """Return the page's block of settings that names this backend."""
    [found] = [
        block.code
        for block in blocks(PAGE, "python")
        if block.first_line == "# settings.py" and f'"{backend}"' in block.code
    ]
    return found


def forget_everything(database: Database) -> None:
    """Delete the rows of the app and those of the queue."""
    database.forget_everything()
    ticks = "django_ox_oxscheduletick"  # which name tasks
    for table in ("django_tasks_database_dbtaskresult", ticks, "django_ox_oxtask"):
        database.execute(f"DELETE FROM {table}")  # noqa: S608
