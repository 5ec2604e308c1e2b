"""The one address of the project."""

from django.urls import path
from shop.views import check_out

urlpatterns = [path("check-out/", check_out)]
