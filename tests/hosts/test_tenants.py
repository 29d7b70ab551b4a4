"""With django-tenants every webhook is stored in the schema of its own tenant."""

from pathlib import Path

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT

pytestmark = pytest.mark.hosts

# The backend sets the schema where Django makes a cursor, and the connection lasts.
SETTINGS = """\
DATABASES = {{
    "default": {{
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": {port},
        "CONN_MAX_AGE": 60,
    }}
}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware", *MIDDLEWARE]
SHARED_APPS = ["django_tenants", "customers", *INSTALLED_APPS]
TENANT_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "cellcast_django"]
INSTALLED_APPS = [*SHARED_APPS, "cellcast_django"]
TENANT_MODEL = "customers.Tenant"
TENANT_DOMAIN_MODEL = "customers.Domain"
DEBUG = False
ALLOWED_HOSTS = [".example.com"]
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
"""

MODELS = """\
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    pass


class Domain(DomainMixin):
    pass
"""

URLS = """\
from django.urls import include, path

urlpatterns = [path("sms/", include("cellcast_django.urls"))]
"""

SEND = """\
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.testing import WebhookClient
from customers.models import Domain, Tenant
from django_tenants.utils import schema_context

NAMES = ("alpha", "beta")
for name in NAMES:
    tenant = Tenant.objects.create(schema_name=name)
    Domain.objects.create(tenant=tenant, domain=f"{name}.example.com", is_primary=True)

for number in range(10):
    for name in NAMES:
        client = WebhookClient(headers={"host": f"{name}.example.com"})
        assert client.reply(message=f"{name} {number}").status_code == 200
        assert client.status(_id=f"{name} {number}").status_code == 200

for name in NAMES:
    with schema_context(name):
        texts = Message.objects.inbound().order_by("pk").values_list("body", flat=True)
        assert list(texts) == [f"{name} {number}" for number in range(10)], (name, list(texts))
        assert Message.objects.delivered().count() == 10
        assert WebhookEvent.objects.done().count() == 20
"""


def test_tenants_see_only_their_own_rows(port: int, tmp_path: Path) -> None:
    project = FreshProject(
        tmp_path, "django>=6.1,<6.2", str(ROOT), "django-tenants", "psycopg[binary]"
    )
    project.append("shop/settings.py", SETTINGS.format(port=port))
    project.write("shop/urls.py", URLS)
    (project.folder / "customers" / "migrations").mkdir(parents=True)
    project.write("customers/models.py", MODELS)
    project.write("customers/migrations/__init__.py", "")
    project.manage("makemigrations", "customers")
    project.manage("migrate_schemas", "--shared")
    project.manage("shell", "--verbosity=0", "--command", SEND)
    project.manage("all_tenants_command", "--no-public", "cellcast_run_handlers")
