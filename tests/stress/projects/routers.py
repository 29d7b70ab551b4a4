"""Where the models of a host project live."""

from typing import Any


class SmsRouter:
    """Sends the app to "sms" and everything else to "default"."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self._database(model._meta.app_label)

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return self._database(model._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == self._database(app_label)

    def _database(self, app_label: str) -> str:
        return "sms" if app_label == "cellcast_django" else "default"
