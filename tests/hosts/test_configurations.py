"""What the pages give to other programs to read, read by those programs."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT, blocks, code_words, table

pytestmark = pytest.mark.hosts

NGINX = """\
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:8080;
        {code}
    }}
}}
"""
APACHE = """\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog {folder}/log
Listen 127.0.0.1:8080
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so
{code}
"""
CADDY = """\
http://127.0.0.1:8080 {{
\treverse_proxy 127.0.0.1:8000 {{
\t\ttransport http {{
\t\t\t{code}
\t\t}}
\t}}
}}
"""


def read_by(service: str, *command: str) -> None:
    """Let a program read its configuration, and install it first if it is missing."""
    run = [str(ROOT / ".ci" / "with"), service, *command]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warn" not in result.stderr.lower(), result.stderr


def setting_of_kept_connections(proxy: str) -> str:
    [cell] = [row[1] for row in table("docs/proxies.md", "proxy") if row[0].startswith(proxy)]
    return code_words(cell)[0]


def test_nginx_reads_its_settings(tmp_path: Path) -> None:
    [block] = blocks("docs/proxies.md", "nginx")
    code = f"{block.code}\n{setting_of_kept_connections('nginx')}"
    (tmp_path / "conf").write_text(NGINX.format(folder=tmp_path, code=code))
    read_by("proxies", "nginx", "-t", "-q", "-c", str(tmp_path / "conf"))


def test_apache_reads_its_settings(tmp_path: Path) -> None:
    [block] = blocks("docs/proxies.md", "apache")
    parameter = setting_of_kept_connections("Apache")
    code = f"{block.code}\nProxyPass /sms/ http://127.0.0.1:8000/sms/ {parameter}"
    (tmp_path / "conf").write_text(APACHE.format(folder=tmp_path, code=code))
    read_by("proxies", "apache2", "-t", "-f", str(tmp_path / "conf"))


def test_caddy_reads_its_settings(tmp_path: Path) -> None:
    code = setting_of_kept_connections("Caddy")
    (tmp_path / "Caddyfile").write_text(CADDY.format(code=code))
    read_by("proxies", "caddy", "adapt", "--config", str(tmp_path / "Caddyfile"))


def test_systemd_reads_its_unit(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    [block] = blocks("docs/deployment.md", "ini")
    unit = tmp_path / Path(block.first_line).name
    unit.write_text(block.code.replace("/srv/shop", str(tmp_path)))
    read_by("systemd", "systemd-analyze", "verify", str(unit))


def test_compose_reads_its_service(tmp_path: Path) -> None:
    [block] = blocks("docs/deployment.md", "yaml")
    database = "  db:\n    image: postgres\n"  # which the reader has
    (tmp_path / "compose.yaml").write_text(block.code + database)
    (tmp_path / "environment").write_text('ALLOWED_HOSTS="www.example.com"\n')
    read_by("compose", "docker-compose", "--project-directory", str(tmp_path), "config", "--quiet")


def test_gunicorn_reads_its_command_line(tmp_path: Path) -> None:
    [line] = [
        block.code
        for block in blocks("docs/deployment.md", "sh")
        if block.code.startswith("gunicorn ")
    ]
    project = FreshProject(tmp_path, "django>=6.1,<6.2", "gunicorn>=25.1")
    project.run("gunicorn", "--check-config", *shlex.split(line)[1:])
