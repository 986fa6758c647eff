"""The webhook of finished completions: COMPLETION_WEBHOOK_URL, signed with COMPLETION_WEBHOOK_SECRET."""

import time
from collections.abc import Sequence

import httpx
import orjson
from django.conf import settings

from config.signatures import SIGNATURE, signature
from proxy.middleware.sink import Record, Sink, require_taken, usable


class WebhookTarget:
    """POSTs `{"completions": [...]}`; signs the body's bytes with HMAC-SHA256 if there is a secret."""

    name = "completion_webhook"

    def __init__(self, url: str, secret: str) -> None:
        """Send to `url`."""
        self._url, self._secret = url, secret.encode()

    def send(self, client: httpx.Client, records: Sequence[Record]) -> Sequence[Record]:
        """Send a batch: any 2xx takes it."""
        body = orjson.dumps({"completions": records})
        headers = {"content-type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = signature(body, self._secret, at=int(time.time()))
        require_taken(client.post(self._url, content=body, headers=headers))
        return ()


class CompletionWebhook(Sink):
    """The middleware of COMPLETION_WEBHOOK_URL."""

    def __init__(self) -> None:
        """Take the options from the environment. Raises ImproperlyConfigured."""
        env = settings.GATEWAY
        url = usable(env.completion_webhook_url, "COMPLETION_WEBHOOK_URL")
        super().__init__(WebhookTarget(url, env.completion_webhook_secret))
