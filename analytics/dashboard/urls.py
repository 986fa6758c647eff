"""Every page of the dashboard. The right that each asks for is at its view: `seated(...)`."""

from django.urls import path

from analytics.dashboard import (
    addresses,  # noqa: F401 - registers <tenant:...>
    catalogue,
    entrance,
    exports,
    log_pages,
    members,
    overview,
    own_keys,
    playground,
    tenant_settings,
)

app_name = "dashboard"
urlpatterns = [
    path("", entrance.entrance, name="entrance"),
    path("<tenant:tenant>/", overview.overview, name="overview"),
    path("<tenant:tenant>/requests/", log_pages.requests, name="requests"),
    path("<tenant:tenant>/requests/<int:ref>/", log_pages.one_request, name="request"),
    path("<tenant:tenant>/requests.csv", exports.requests_csv, name="requests-csv"),
    path("<tenant:tenant>/usage-by-<slug:by>.csv", exports.usage_csv, name="usage-csv"),
    path("<tenant:tenant>/errors/", log_pages.errors, name="errors"),
    path("<tenant:tenant>/models/", catalogue.models, name="models"),
    path("<tenant:tenant>/keys/", own_keys.keys, name="keys"),
    path("<tenant:tenant>/keys/new/", own_keys.make_key, name="make-key"),
    path("<tenant:tenant>/keys/<int:ref>/", own_keys.one_key, name="key"),
    path("<tenant:tenant>/keys/<int:ref>/rotate/", own_keys.rotate_key, name="rotate-key"),
    path("<tenant:tenant>/keys/<int:ref>/switch/", own_keys.switch_key, name="switch-key"),
    path("<tenant:tenant>/keys/<int:ref>/delete/", own_keys.delete_key, name="delete-key"),
    path("<tenant:tenant>/playground/", playground.playground, name="playground"),
    path("<tenant:tenant>/playground/key/", playground.playground_key, name="playground-key"),
    path("<tenant:tenant>/playground/cost/", playground.playground_cost, name="playground-cost"),
    path("<tenant:tenant>/members/", members.members, name="members"),
    path("<tenant:tenant>/members/<int:ref>/", members.change_member, name="change-member"),
    path("<tenant:tenant>/members/<int:ref>/remove/", members.remove_member, name="remove-member"),
    path("<tenant:tenant>/settings/", tenant_settings.tenant_settings, name="settings"),
]
