"""The control plane's URLs. The data plane's are in `proxy/urls.py` and never come here."""

from django.contrib import admin
from django.urls import include, path

from gatewaysite.accounts.views import admin_login
from gatewaysite.api.schema import docs_view, schema_view
from gatewaysite.home.page import refresh_view
from gatewaysite.landing import landing

# Before whatever asks the admin for its screens (gatewaysite.admin_app).
admin.autodiscover()

# Looked up here by Django and by allauth.
handler429 = "gatewaysite.accounts.views.handler429"

urlpatterns = [
    path("", landing),
    path("accounts/", include("gatewaysite.accounts.urls")),
    path("admin/login/", admin_login),  # before the admin's own
    path("admin/overview/", refresh_view, name="overview_parts"),
    path("admin/", admin.site.urls),
    path("dashboard/", include("analytics.dashboard.urls")),
    path("api/v1/", include("gatewaysite.api.urls")),
    path("api/schema/", schema_view, name="api-schema"),
    path("api/docs/", docs_view, name="api-docs"),
]
