"""A person who reads the admin's pages in a browser, as far as HTTP goes."""

import http.client
import re
from typing import NamedTuple
from urllib.parse import urlencode

from tests.stress.hosts import STAFF, STAFF_PASSWORD


class Page(NamedTuple):
    """What a browser gets."""

    status: int
    text: str
    location: str


class Staff:
    """Keeps the cookies; ``admin`` is the path of the site that the person logs in to."""

    def __init__(self, port: int, admin: str = "/admin/") -> None:
        self.port = port
        self.admin = admin
        self.cookies: dict[str, str] = {}

    def log_in(self) -> None:
        """Log in as a superuser does, through the form."""
        response = self.post(f"{self.admin}login/", username=STAFF, password=STAFF_PASSWORD)
        assert response.status == 302, response

    def get(self, path: str) -> Page:
        """Open a page."""
        return self._request("GET", path, None)

    def post(self, path: str, *, page: str = "", **form: str) -> Page:
        """Open a page, and send a form of its to this address: by default, to the page's own."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(page or path).text)
        assert token is not None, path
        return self._request("POST", path, urlencode({"csrfmiddlewaretoken": token[1], **form}))

    def event(self, pk: int) -> Page:
        """Open the page of a webhook event."""
        return self.get(f"{self.admin}cellcast_django/webhookevent/{pk}/change/")

    @property
    def cookie_header(self) -> str:
        """What the browser sends to this site with each request, also with a forged one."""
        return "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _request(self, method: str, path: str, body: str | None) -> Page:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        if self.cookies:
            headers["Cookie"] = self.cookie_header.partition(" ")[2]
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        text = response.read().decode()
        connection.close()
        return Page(response.status, text, response.headers.get("Location", ""))
