from shop.teams import TEAMS

INSTALLED_APPS += ["django_tasks_db"]
TIME_ZONE = "Australia/Sydney"
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
CELLCAST_RUN_HANDLERS = "default"
CELLCAST_OWN_NUMBERS = [own_number for own_number, _ in TEAMS.values()]
CELLCAST_DIRECTORY = "shop.names.Families"
CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
