"""The fixture for host projects, in projects with and without Django."""

from pathlib import Path

import pytest

import cellcast_django
from cellcast_django.sending import send
from cellcast_django.testing import WebhookClient, fail_next, pretend_to_send


@pytest.fixture
def sent_before() -> None:
    """What a test without the fixture has left behind."""
    pretend_to_send("+61400000001", "left over")
    fail_next(TimeoutError())


@pytest.mark.django_db
def test_fixture_sets_up_an_empty_outbox(sent_before: None, cellcast: WebhookClient) -> None:
    assert cellcast.sent == []
    send("0400 000 001", "Hello")
    assert [each.receiver for each in cellcast.sent] == ["+61400000001"]


# In other projects


def test_plugin_does_not_import_django_in_other_projects(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\n\ndef test_django_is_not_imported():\n    assert 'django' not in sys.modules\n"
    )
    run(pytester).assert_outcomes(passed=1)


def test_host_project_uses_the_fixture_with_its_own_settings(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        host="""
        SECRET_KEY = "only-for-tests"
        INSTALLED_APPS = ["cellcast_django"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        ROOT_URLCONF = "host_urls"
        USE_TZ = True
        """,
        host_urls="""
        from django.urls import include, path

        urlpatterns = [path("sms/", include("cellcast_django.urls"))]
        """,
        test_host="""
        import pytest
        from cellcast_django.conf import conf
        from cellcast_django.models import Message
        from cellcast_django.sending import send
        from cellcast_django.signals import message_received
        from cellcast_django.testing import fail_next, pretend_to_send, sent

        pytestmark = pytest.mark.django_db

        def test_reply(cellcast):
            texts = []

            def handler(message, **kwargs):
                texts.append(message.body)

            message_received.connect(handler)
            assert cellcast.reply(message="YES").status_code == 200
            assert texts == ["YES"]

        def test_handler_that_raises_fails_its_test(cellcast):
            def handler(message, **kwargs):
                raise LookupError("no such appointment")

            message_received.connect(handler)
            with pytest.raises(LookupError):
                cellcast.reply(message="YES")
            assert Message.objects.exists()

        def test_outbox(cellcast):
            send("0400000001", "Hello")
            assert [each.body for each in cellcast.sent] == ["Hello"]
            fail_next(TimeoutError())

        def test_nothing_is_left():
            assert not conf.webhook_secrets
            assert not conf.send_with
            assert sent == []
            assert pretend_to_send("0400000001", "Hello")
            assert not Message.objects.exists()
        """,
    )
    result = run(pytester, "-p", "pytest_django.plugin", "--ds=host")
    result.assert_outcomes(passed=4)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in its own process, with this plugin and no other installed one."""
    [folder] = cellcast_django.__path__
    environment = {"PYTHONPATH": str(Path(folder).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return pytester.runpytest_subprocess("-p", "cellcast_django.pytest_plugin", *arguments)
