"""The least that can be called a receiver: check the header, insert the body, answer."""

from base64 import b64encode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from benchmarks.models import BareEvent

EXPECTED = "Basic " + b64encode(settings.CELLCAST_WEBHOOK_SECRETS[0].encode()).decode()


@csrf_exempt
@require_POST
def null(request: HttpRequest) -> HttpResponse:
    """Read the body and keep nothing: what web server and Django alone can do."""
    return JsonResponse({"length": len(request.body)})


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Keep the body."""
    if not constant_time_compare(request.headers.get("Authorization", ""), EXPECTED):
        return HttpResponse(status=401)
    event = BareEvent.objects.create(body=request.body.decode())
    return JsonResponse({"id": event.pk})
