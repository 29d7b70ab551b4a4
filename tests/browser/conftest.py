"""A browser, and a server whose pages may run and load nothing that they should not."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import reverse
from pytest_django.live_server_helper import LiveServer

from cellcast_django.testing import WebhookClient
from tests.admin_pages import staff
from tests.browser import clinic as clinics
from tests.browser.inspection import invalid_html
from tests.browser.person import Person

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium: Playwright's own is not downloaded."""
    chromium = shutil.which("chromium")
    assert chromium, "There is no chromium on PATH."
    off = ["gpu", "quic", "background-networking", "component-update", "sync"]
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in off)]
    playwright = import_module("playwright.sync_api")  # it is there only when browsers are driven
    with pytest.MonkeyPatch.context() as monkeypatch, playwright.sync_playwright() as driver:
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # the driver runs an event loop
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The pages that tests have had from the server: at the end they must be valid HTML.

    The checker takes longer to start than to read them all.
    """
    sources: dict[str, str] = {}
    yield sources
    assert invalid_html(tmp_path_factory.mktemp("sources"), sources) == []


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a browser that has no history, on a machine that may be busy with other things."""
    with browser.new_context() as context:
        context.set_default_timeout(90_000)
        yield context.new_page()


@contextmanager
def serving() -> Iterator[str]:
    """A server that adds the policy to every response; at its URL."""
    middleware = [f"{__name__}.strict_policy", *django_settings.MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("localhost")
        yield server.url
        server.stop()


@pytest.fixture
def server(transactional_db: None) -> Iterator[str]:
    """The server for one test."""
    with serving() as url:
        yield url


def log_in(context: Any, server: str, client: Client) -> None:
    """Let the browser be whoever has logged in with this client."""
    name = django_settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": server}])


def complaints_of(page: Any) -> list[str]:
    """Return a list to which the browser adds what it has to say: also what the policy forbids."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    return complaints


@pytest.fixture
def browse(page: Any, server: str, admin_client: Client) -> Iterator[Callable[[str], str]]:
    """Opens a page as an administrator, and returns what the server sent.

    At the end the browser must have had nothing to say.
    """
    complaints = complaints_of(page)
    log_in(page.context, server, admin_client)

    def browse(path: str) -> str:
        source: str = page.goto(server + path).text()
        return source

    yield browse
    assert complaints == []


SignIn = Callable[..., Person]


@pytest.fixture
def sign_in(page: Any, server: str) -> Iterator[SignIn]:
    """Lets somebody with these permissions look at the admin's front page.

    At the end the browser must have had nothing to say.
    """
    complaints = complaints_of(page)

    def sign_in(*permissions: str) -> Person:
        log_in(page.context, server, staff(*permissions))
        page.goto(server + reverse("admin:index"))
        return Person(page)

    yield sign_in
    assert complaints == []


@pytest.fixture
def clinic(cellcast: WebhookClient, settings: Any) -> None:
    """A site with 4,000 messages of half a year, that sends nothing and has names."""
    settings.ROOT_URLCONF = clinics.__name__
    settings.CELLCAST_OWN_NUMBERS = clinics.OWN_NUMBERS
    settings.CELLCAST_DIRECTORY = f"{clinics.__name__}.Customers"
    clinics.fill()


@pytest.fixture
def plain_page(browser: Any, server: str, admin_client: Client) -> Iterator[Any]:
    """A page of an administrator's browser that runs no scripts."""
    with browser.new_context(base_url=server, java_script_enabled=False) as context:
        log_in(context, server, admin_client)
        yield context.new_page()


def tab_stops(page: Any) -> list[str]:
    """Return the name of everything that the tabulator key reaches in the page's content."""
    stops: list[str] = []
    for _ in range(100):
        page.keyboard.press("Tab")
        name, is_inside = page.evaluate(FOCUS)
        if is_inside:
            stops.append(name)
        elif stops:
            return stops
    raise AssertionError(f"The keyboard does not leave the content: {stops}")


FOCUS = """() => {
    const { activeElement: here } = document;
    const name = here.labels?.[0]?.textContent || here.ariaLabel || here.value || here.textContent;
    return [name.trim().replace(/\\s+/g, " "), Boolean(here.closest("#content"))];
}"""
