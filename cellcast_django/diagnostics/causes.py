"""What may have gone wrong between a Test Send and the app, each cause with its remedy."""

import socket
import ssl
from http.client import HTTPException, InvalidURL

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

ERRORS: list[tuple[type[Exception] | tuple[type[Exception], ...], Promise, Promise]] = [
    (
        socket.gaierror,
        _("The host name is not in DNS"),
        _("Check the spelling, and whether the DNS record exists."),
    ),
    (
        ssl.SSLCertVerificationError,
        _("The TLS certificate is not valid for this host"),
        _(
            "It must be unexpired, and issued for this host by a public certificate authority. The "
            "server must send the intermediate certificates too. Cellcast may not accept a "
            "self-signed one."
        ),
    ),
    (
        ssl.SSLError,
        _("The TLS handshake failed"),
        _("Check the port, and whether the URL should begin with http://."),
    ),
    (
        TimeoutError,
        _("The request timed out"),
        _(
            "A firewall may be dropping the connection, or a handler may be slow (the webhook may "
            "have been stored)."
        ),
    ),
    (
        ConnectionRefusedError,
        _("Nothing is listening on this host and port"),
        _("Start the server, and check the port."),
    ),
    (
        ConnectionError,
        _("The server closed the connection without a response"),
        _(
            "A firewall or a limit on the body's size may be the cause, or the port expects https://."
        ),
    ),
    ((InvalidURL, ValueError), _("The URL is not valid"), _("Check its spelling.")),
    (
        HTTPException,
        _("The server does not speak HTTP"),
        _("Check the port, and whether the URL should begin with https://."),
    ),
    (Exception, _("The host cannot be reached"), _("Check the network and the firewall.")),
]
"""The exceptions, the cause, the remedy. The first match counts, so subclasses come first."""

RESPONSES: list[tuple[str, str, Promise, Promise]] = [
    (
        "2..",
        r"<input[^>]{1,200}type=.?password",
        _("A login page responded instead of the app."),
        _("Exempt the webhook URLs from the login in front of the app."),
    ),
    (
        "2..",
        r"content-type: text/html|<html",
        _("A web page responded instead of the app."),
        _("Check the host and path: this may be a catch-all page, a parking page or another site."),
    ),
    (
        "2..",
        r"content-type: application/json",
        _("The response is JSON from another app."),
        _("Check the host and path, and the order of the project's urlpatterns."),
    ),
    (
        "2..",
        "",
        _("The response does not come from the app."),
        _("Check the host and path."),
    ),
    (
        "400",
        r"DisallowedHost|<h1>Bad Request \(400\)",
        _("Django refused the host, or took the request for an attack."),
        _("Add the host to ALLOWED_HOSTS. A proxy must pass the Host header on."),
    ),
    (
        "400",
        r"HTTP request.{0,100}HTTPS|plain HTTP to an SSL-enabled",
        _("The port expects HTTPS."),
        _("Use the https:// URL, here and in Cellcast's dashboard."),
    ),
    (
        "400",
        "No required SSL certificate was sent",
        _("The server asks for a client certificate."),
        _("Cellcast has none: exempt the webhook URLs from that."),
    ),
    (
        "401",
        r'realm="Cellcast webhook"',
        _("The app refused the username and password."),
        _(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they match, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    (
        "401",
        "",
        _("Something in front of the app asks for its own password."),
        _("Exempt the webhook URLs there."),
    ),
    (
        "403",
        "csrf",
        _("Django's CSRF protection refused it."),
        _("Check the path: the app's views are exempt, unless something wraps them."),
    ),
    (
        "403",
        "",
        _("Something in front of the app refused it: a firewall, bot filter or IP allow list."),
        _("Allow POST requests to the webhook URLs. Cellcast publishes no IP addresses."),
    ),
    (
        "404",
        "",
        _("There is nothing at this path."),
        _('Check the host and path; "manage.py cellcast_setup" on that server prints the URLs.'),
    ),
    (
        "405",
        "",
        _("Whatever is at this path does not accept POST, so it is not the app."),
        _("Check the host and path: this may be another view or a static file server."),
    ),
    (
        "411",
        "",
        _("The server needs the body's length, and something on the way removes it."),
        _("Let the proxy buffer requests, or use a server that accepts chunked bodies."),
    ),
    (
        "413",
        "",
        _("The body is too large."),
        _("Raise CELLCAST_MAX_BODY_BYTES, or the proxy's limit (nginx: client_max_body_size)."),
    ),
    (
        "429",
        "",
        _("Something in front of the app limits the rate of requests."),
        _("Exempt the webhook URLs: after a bulk send, a thousand reports arrive at once."),
    ),
    (
        "503",
        r'retry-after: [\s\S]{0,4096}\n\n\{"detail"',
        _("The app responded, but its database failed: nothing was stored."),
        _('Run "manage.py migrate", and check that the database is up.'),
    ),
    (
        "50[234]|52.",  # the latter are Cloudflare's
        "",
        _("The proxy responded, but the app behind it does not."),
        _("Check that the app's server is running, and look at its log."),
    ),
    (
        "5..",
        "",
        _("The server failed."),
        _("Look for the exception in the server's log."),
    ),
    (
        "...",
        "",
        _("The response does not show the cause."),
        _("Look at the server's log."),
    ),
]
"""The status, a pattern in the headers ("name: value") or body, the cause, the remedy."""
