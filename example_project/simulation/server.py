"""A real HTTP server for the demo, in its own thread, with one thread per request."""

from threading import Thread
from typing import Self

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

HOST = "127.0.0.1"
USUAL_PORT = 8000
ANY_FREE_PORT = 0


class DemoServer(ThreadedWSGIServer):
    """Listens as soon as it exists, and responds once it has been started."""

    request_queue_size = 100

    @classmethod
    def listen(cls, port: int | None) -> Self:
        """Listen on this port; without one, on 8000 or any free port. Raises ``OSError``."""
        if port is not None:
            return cls((HOST, port), WSGIRequestHandler)
        try:
            return cls((HOST, USUAL_PORT), WSGIRequestHandler)
        except OSError:
            return cls((HOST, ANY_FREE_PORT), WSGIRequestHandler)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{HOST}:{self.server_port}"

    def start(self, application: WSGIHandler) -> None:
        """Serve the application, and the admin's static files."""
        self.set_app(StaticFilesHandler(application))
        Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()
