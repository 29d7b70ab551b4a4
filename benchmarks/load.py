"""The load: 70 % delivery reports and 30 % replies, by wrk or, where there is none, by threads."""

import http.client
import itertools
import shutil
import subprocess
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from statistics import quantiles

CONNECTIONS = 16
REPORTS_IN_TEN = 7
BURST_CONNECTIONS = 32
ARRAY_CONNECTIONS = 4
AUTHORIZATION = "Basic " + b64encode(b"cellcast:a-long-enough-password").decode()
# Each takes an id and the customer's number; Lua's string.format reads them as Python does.
REPORT = (
    '{"_id": "%s", "status": "delivered", "type": "send", "sender": "cellcast", "receiver": "%s"}'
)
REPLY = (
    '{"_id": "%s", "status": "delivered", "type": "receive", '
    '"message": "Yes please, see you on Tuesday at nine", "sender": "%s", '
    '"receiver": "+61400000001"}'
)
UNLIMITED = 10**9


@dataclass(frozen=True)
class Target:
    """A server on the loopback interface, and its paths for reports and for replies."""

    port: int
    status_path: str
    reply_path: str


@dataclass(frozen=True)
class Figures:
    """What a load saw; latencies in milliseconds."""

    answered: int
    errors: int
    seconds: float
    p50: float
    p99: float


_runs = itertools.count(int(time.time()) % 0x10000 * 0x100)


def new_prefix() -> str:
    """Return the first 14 digits of an ObjectId: the time, and a number that no run has used."""
    return f"{int(time.time()):08x}{next(_runs) % 0x1000000:06x}"


def steady(target: Target, *, seconds: float, different: int = UNLIMITED) -> Figures:
    """Send webhooks for so long, of which so many are different ones; the rest are duplicates."""
    if not shutil.which("wrk"):
        return _by_threads(target, seconds=seconds, different=different)
    command = [
        *("wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds:g}s"),
        *("--timeout=20s", "--script", str(Path(__file__).with_name("webhooks.lua"))),
        *(f"http://127.0.0.1:{target.port}/", "--", target.status_path, REPORT),
        *(target.reply_path, REPLY, AUTHORIZATION, new_prefix(), str(different)),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("FIGURES "))
    answered, errors, *measured = line.split()[1:]
    return Figures(int(answered) - int(errors), int(errors), *map(float, measured))


def burst(target: Target, *, reports: int) -> Figures:
    """Send so many different reports as fast as they are taken, and wait for every answer."""
    return _by_threads(target, reports=reports, connections=BURST_CONNECTIONS)


def arrays(target: Target, *, reports: int, size: int) -> Figures:
    """Send so many different reports in arrays of ``size``; the figures count reports."""
    return _by_threads(target, reports=reports, size=size, connections=ARRAY_CONNECTIONS)


def _by_threads(
    target: Target,
    *,
    seconds: float = 600,
    different: int = UNLIMITED,
    reports: int | None = None,
    size: int = 1,
    connections: int = CONNECTIONS,
) -> Figures:
    prefix = new_prefix()
    serials = iter(range(0, reports if reports is not None else UNLIMITED, size))
    started = time.perf_counter()
    latencies: list[float] = []
    errors: list[str] = []

    def work() -> None:
        while time.perf_counter() < started + seconds:
            serial = next(serials, None)
            if serial is None:
                return
            serial %= different
            is_report = reports is not None or serial % 10 < REPORTS_IN_TEN
            path, text = (target.status_path, REPORT) if is_report else (target.reply_path, REPLY)
            bodies = [text % _arguments(prefix, each) for each in range(serial, serial + size)]
            body = bodies[0] if size == 1 else f"[{', '.join(bodies)}]"
            begin = time.perf_counter()
            try:
                status = _post(target.port, path, body)
            except OSError as error:
                errors.append(str(error))
            else:
                latencies.append((time.perf_counter() - begin) * 1_000)
                if status != HTTPStatus.OK:
                    errors.append(str(status))

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    percentiles = quantiles(latencies, n=100)
    elapsed = time.perf_counter() - started
    answered = len(latencies) * size
    return Figures(answered, len(errors), elapsed, percentiles[49], percentiles[98])


def _arguments(prefix: str, serial: int) -> tuple[str, str]:
    return f"{prefix}{serial:010x}", f"+6140{serial % 10_000_000:07d}"


def _post(port: int, path: str, body: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
