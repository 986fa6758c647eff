"""The mail backend of a gateway without EMAIL_URL: nothing is lost in silence, whoever sends is told."""

from collections.abc import Sequence
from typing import Any

from django.core.mail.backends.base import BaseEmailBackend


class MailNotConfigured(Exception):
    """There is nobody to hand a mail to."""


class NotConfigured(BaseEmailBackend):
    """Refuses every mail, by saying what is missing."""

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        """Raise MailNotConfigured, unless the sender does not care."""
        if email_messages and not self.fail_silently:
            raise MailNotConfigured("EMAIL_URL is not set")
        return 0
