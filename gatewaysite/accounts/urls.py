"""/accounts/: those of allauth's pages that have a use here.

Left out: sign-up, passwords by mail, and addresses that people would add to their own account, as single
sign-on joins accounts by their address.
"""

from allauth.account import views as allauth_views
from allauth.socialaccount import views as social_views
from django.urls import include, path

from gatewaysite.accounts import single_sign_on, views

urlpatterns = [
    path("", views.account, name="account"),
    path("login/", allauth_views.login, name="account_login"),
    path("logout/", allauth_views.logout, name="account_logout"),
    path("inactive/", allauth_views.account_inactive, name="account_inactive"),
    path("no-access/", views.no_access, name="account_no_access"),
    path("signup/", views.no_sign_up, name="account_signup"),
    path("reauthenticate/", allauth_views.reauthenticate, name="account_reauthenticate"),
    path("password/change/", allauth_views.password_change, name="account_change_password"),
    path("password/set/", views.no_password, name="account_set_password"),
    path("2fa/", include("allauth.mfa.urls")),
    path("connections/", social_views.connections, name="socialaccount_connections"),
    path("connections/cancelled/", social_views.login_cancelled, name="socialaccount_login_cancelled"),
    path("connections/error/", social_views.login_error, name="socialaccount_login_error"),
    path("oidc/<slug:provider_id>/login/", single_sign_on.sign_in, name="openid_connect_login"),
    path("oidc/<slug:provider_id>/login/callback/", single_sign_on.come_back, name="openid_connect_callback"),
]
