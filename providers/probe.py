"""Asks a vendor for its model list: behind "Test this provider" and the background refresh.

Control plane only, hence httpx. No secret reaches a result, not even one that the vendor's error
echoes. Proxies from the environment are left alone and redirects are not followed, as in the data
plane: a test that goes another way than the traffic shows nothing.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
import orjson

from config.vault import SecretUnreadable
from providers import demo
from providers.dialects import DIALECTS
from providers.dialects.base import Dialect
from providers.dialects.openai.quirks import path_without_model
from providers.errors import UpstreamError
from providers.models import DEMO_URL, Provider

TIMEOUT_S = 10.0
MAX_BODY_BYTES = 16 * 2**20
MASK = "[hidden]"
_SHORTEST_SECRET = 4
_VERSION_FIRST, _VERSION_LAST = re.compile(r"/v\d[a-z0-9]*/"), re.compile(r"/v\d[a-z0-9]*$")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a vendor said. `models` are the dialect's `{"id", "created", "owned_by"}`."""

    ok: bool
    latency_ms: float
    models: tuple[Mapping[str, object], ...] = ()
    error: str = ""

    @property
    def names(self) -> list[str]:
        """The models' names, sorted."""
        return sorted(str(model["id"]) for model in self.models)


class _Failed(Exception):
    """The probe failed for the reason in the message."""


def probe(provider: Provider, *, timeout_s: float = TIMEOUT_S) -> ProbeResult:
    """Fetch the provider's model list once. Never raises for what a vendor or an operator did wrong."""
    if provider.base_url.startswith(DEMO_URL):
        return ProbeResult(ok=True, latency_ms=0.0, models=tuple(_demo_models()))
    started = time.perf_counter()
    secrets: Sequence[str] = ()
    try:
        dialect, credential = _dialect(provider), _credential(provider)
        secrets = _secrets(provider, credential)
        models = _models(provider, dialect, credential, secrets=secrets, timeout_s=timeout_s)
    except (_Failed, UpstreamError) as problem:
        return ProbeResult(ok=False, latency_ms=_since(started), error=_masked(str(problem), secrets))
    return ProbeResult(ok=True, latency_ms=_since(started), models=tuple(models))


def _models(
    provider: Provider, dialect: Dialect, credential: str, *, secrets: Sequence[str], timeout_s: float
) -> Sequence[Mapping[str, object]]:
    path = path_without_model(dialect.models_path(), provider.path_template or "{path}")
    url = _joined(provider.base_url.rstrip("/"), path)
    headers = {**provider.extra_headers, **dialect.auth_headers(credential, provider.auth_header)}
    status, answered, body = _fetch(url, headers, connect_s=provider.connect_timeout_s, timeout_s=timeout_s)
    # Before any parsing, which may cut or re-encode what it quotes.
    body = _masked(body.decode("utf-8", "replace"), secrets).encode()
    if 300 <= status < 400:
        raise _Failed(
            f"Status {status}: it redirects to {answered.get('location', '?')}. Correct the base URL."
        )
    if status >= 400:
        raise _Failed(f"Status {status}: {dialect.error(status, answered, body).message}")
    return dialect.model_list(body)


def _joined(base_url: str, path: str) -> str:
    """Return the list's URL; a path that names its version (/v1beta/models) needs none of the base URL's."""
    return (_VERSION_LAST.sub("", base_url) if _VERSION_FIRST.match(path) else base_url) + path


def _fetch(
    url: str, headers: Mapping[str, str], *, connect_s: float, timeout_s: float
) -> tuple[int, Mapping[str, str], bytes]:
    deadline = time.perf_counter() + timeout_s
    timeout = httpx.Timeout(timeout_s, connect=min(connect_s, timeout_s))
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, headers={"accept-encoding": "identity"}) as client,
            client.stream("GET", url, headers=dict(headers)) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _Failed(f"The answer is larger than {MAX_BODY_BYTES // 2**20} MiB.")
                if time.perf_counter() > deadline:
                    raise _Failed(f"The answer was not complete after {timeout_s:g} s.")
            return (
                response.status_code,
                {name.lower(): text for name, text in response.headers.items()},
                bytes(body),
            )
    except httpx.ConnectTimeout:
        raise _Failed(f"No connection within {timeout.connect:g} s.") from None
    except httpx.TimeoutException:
        raise _Failed(f"No answer within {timeout_s:g} s.") from None
    except (httpx.LocalProtocolError, UnicodeEncodeError):
        # Their texts quote the header, which is the credential.
        raise _Failed("The key or a header has characters that HTTP cannot carry.") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as problem:
        raise _Failed(f"The request failed: {str(problem) or type(problem).__name__}") from None


def _dialect(provider: Provider) -> Dialect:
    dialect = DIALECTS.get(provider.dialect)
    if dialect is None:
        raise _Failed(f"This version does not speak the {provider.get_dialect_display()} dialect yet.")
    return dialect


def _credential(provider: Provider) -> str:
    try:
        credential = provider.first_credential()
    except SecretUnreadable as problem:
        raise _Failed(f"The stored key cannot be read: {problem}.") from None
    if not credential and (variable := provider.unset_variable):
        raise _Failed(f"The environment variable {variable} is not set where the gateway runs.")
    return credential


def _secrets(provider: Provider, credential: str) -> Sequence[str]:
    found = {credential, *provider.extra_headers.values(), _password_of(provider.base_url)}
    spelled = {
        form
        for secret in found
        for form in (secret, quote(secret, safe=""), orjson.dumps(secret)[1:-1].decode())
    }
    # The longest first, so that no secret's part is left over beside another one's mask.
    return sorted((form for form in spelled if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)


def _password_of(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _demo_models() -> Sequence[Mapping[str, object]]:
    return [{"id": name, "created": 0, "owned_by": "demo"} for name in demo.MODELS]


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
