"""Which rows about people and their tokens the audit log follows."""

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group, User

from config.audit import audited
from gatewaysite.models import ApiToken

audited(User, hidden=("password",), skipped=("last_login",))
audited(Group)
audited(SocialAccount, skipped=("extra_data", "last_login"))
# What a second factor is made from is neither shown nor compared.
audited(Authenticator, skipped=("data", "last_used_at"))
audited(ApiToken, skipped=("digest", "last_used_at"))
