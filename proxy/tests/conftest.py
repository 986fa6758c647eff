"""Fixtures of the hot path's tests."""

from typing import Any, cast

import pytest
from hypothesis import settings as hypothesis_settings

from keys.caller import Caller
from keys.secret import digest
from proxy import lifecycle, services
from proxy.gateway import Gateway
from proxy.middleware.chain import Chains, RequestChain, ResponseChain
from proxy.tests.fakes import SECRET, FakeTransport, environment, make_snapshot, says

# Property tests judge answers, never speed: a busy machine must not fail them.
hypothesis_settings.register_profile("gateway", deadline=None)
hypothesis_settings.load_profile("gateway")


@pytest.fixture
async def serving(settings, tmp_path, monkeypatch):
    """Make this process's gateway, before a scripted vendor: `serving(says("Hi."), cache_mode="none")`."""
    made = []
    settings.COMPLETION_OBSERVERS = []  # those of a higher layer have tasks of their own

    def serve(*script, snapshot=None, caller=None, **env):
        settings.GATEWAY = environment(data_dir=tmp_path, **env)
        gateway = Gateway()
        made.append(gateway)
        gateway.transport = cast("Any", FakeTransport(*(script or (says(),))))
        known = {digest(SECRET): caller or Caller(1, 2, "ci", "test")}
        gateway.snapshot = (
            make_snapshot("openai", "vllm", callers=known) if snapshot is None else snapshot(known)
        )
        monkeypatch.setattr(lifecycle, "_gateway", gateway)
        return gateway

    yield serve
    for gateway in made:
        await gateway.close()


@pytest.fixture
def gated(serving, monkeypatch):
    """Make a gateway with middlewares: `gated(says("Hi."), response=[Recorder()])`."""

    def make(*script, request=(), response=(), **options):
        chains = Chains(RequestChain(request), ResponseChain(response))
        monkeypatch.setattr(services, "configured", lambda: chains)
        return serving(*script, **options)

    return make
