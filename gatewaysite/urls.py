"""The control plane's URLs. The data plane's are in `proxy/urls.py` and never come here."""

from django.contrib import admin
from django.urls import include, path

from gatewaysite.landing import landing

urlpatterns = [
    path("", landing),
    path("admin/", admin.site.urls),
    path("dashboard/", include("analytics.dashboard.urls")),
    path("api/v1/", include("proxy.api.urls")),
]
