"""The pages of the shop."""

from django.core.exceptions import BadRequest
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from shop.models import Order
from shop.tasks import charge, send_receipt


@csrf_exempt
def check_out(request: HttpRequest) -> JsonResponse:
    """Store an order and everything that has to follow, or nothing at all."""
    order = Order.objects.create(email=request.POST["email"])
    charged = charge.enqueue(order.pk)
    receipt = send_receipt.delay_on_commit(order.pk)
    if "@" not in order.email:
        raise BadRequest("that is no address")  # the order and both jobs are gone
    return JsonResponse({"order": order.pk, "charge": charged.id, "receipt": receipt.id})
