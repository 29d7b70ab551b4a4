"""Connects the handlers, and what kills them."""

from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created

from cellcast_django.signals import (
    exactly_once,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)


class HostConfig(AppConfig):
    name = "tests.stress.host"
    label = "fire_host"

    def ready(self) -> None:
        # They import the models, which are there only now.
        from tests.stress.host import deaths, handlers

        for name in getattr(settings, "FIRE_HANDLERS", ()):
            handler: handlers.Handler = handlers.Handler(name)
            if name in getattr(settings, "FIRE_EXACTLY_ONCE", ()):
                handler = exactly_once(handlers.Writer(name))
            if name in getattr(settings, "FIRE_IN_ORDER", ()):
                in_order(handler)
            for signal in (message_received, status_changed, opt_out_received):
                signal.connect(handler, weak=False, dispatch_uid=name)
        if getattr(settings, "FIRE_DEATHS", True):
            connection_created.connect(deaths.watch_commits)
