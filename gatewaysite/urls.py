"""The control plane's URLs. The data plane's are in `proxy/urls.py` and never come here."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
