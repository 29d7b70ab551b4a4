"""A minimal browser: it keeps cookies, and logs in to the admin."""

import re
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from django.urls import reverse

from example_project.simulation.server import HOST


class Browser:
    """Requests pages from the demo's server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: SimpleCookie = SimpleCookie()

    def log_in(self, username: str, password: str) -> int:
        """Log in through the admin's form, and return the status: 302 on success."""
        path = reverse("admin:login")
        _, page = self.request("GET", path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        form = {
            "csrfmiddlewaretoken": token[1] if token else "",
            "username": username,
            "password": password,
            "next": reverse("admin:index"),
        }
        status, _ = self.request("POST", path, urlencode(form))
        return status

    def request(self, method: str, path: str, form: str | None = None) -> tuple[int, str]:
        """Return the status and the page; redirects are not followed."""
        headers = {"Cookie": "; ".join(f"{m.key}={m.value}" for m in self.cookies.values())}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, form, headers)
            response = connection.getresponse()
            for cookie in response.headers.get_all("Set-Cookie", []):
                self.cookies.load(cookie)
            return response.status, response.read().decode()
        finally:
            connection.close()
