"""What people do that changes no row, in the audit log: sign-ins, failed ones, sign-outs, second factors.

The word is in an entry's `additional_data["event"]`. What does change rows (members, links to the issuer,
authenticator apps) is audited as rows are.
"""

from typing import Any

from allauth.account.signals import user_logged_in
from allauth.mfa.signals import authentication_failed, authenticator_reset
from auditlog import get_logentry_model
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.contenttypes.models import ContentType

SIGNED_IN, FAILED, SIGNED_OUT = "signed in", "failed to sign in", "signed out"
NEW_CODES = "new recovery codes"
EVENTS = (SIGNED_IN, FAILED, SIGNED_OUT, NEW_CODES)

_WORDS = {"password": "password", "socialaccount": "single sign-on", "mfa": "second factor"}


def noticed(event: str, user: Any, *, by: str = "") -> None:
    """Write down what `user` did; None stands for somebody whom nobody here is."""
    log = get_logentry_model()
    log.objects.create(
        content_type=ContentType.objects.get_for_model(get_user_model()),
        object_pk="" if user is None else str(user.pk),
        object_id=None if user is None else user.pk,
        object_repr="(no such user)" if user is None else str(user),
        action=log.Action.ACCESS,
        # A failed attempt is nobody's act yet: it was done *to* the user.
        actor=None if event == FAILED else user,
        changes={"by": ["", by]} if by else {},
        additional_data={"event": event},
    )


def connect() -> None:
    """Listen to what is told of people."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit.signed_in")
    user_logged_out.connect(_signed_out, dispatch_uid="audit.signed_out")
    authentication_failed.connect(_wrong_code, dispatch_uid="audit.wrong_code")
    authenticator_reset.connect(_new_codes, dispatch_uid="audit.new_codes")


def _signed_in(request: Any, user: Any, **_: Any) -> None:
    used = [each["method"] for each in request.session.get("account_authentication_methods", ())]
    noticed(SIGNED_IN, user, by=", ".join(_WORDS.get(method, method) for method in used))


def _signed_out(user: Any, **_: Any) -> None:
    if user is not None:
        noticed(SIGNED_OUT, user)


def _wrong_code(user: Any, **_: Any) -> None:
    noticed(FAILED, user, by="second factor")


def _new_codes(user: Any, **_: Any) -> None:
    noticed(NEW_CODES, user)
