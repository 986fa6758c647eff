import re

import pytest
from prometheus_client import REGISTRY

from providers.usage import Usage
from proxy import metrics
from proxy.completion import Attempt
from proxy.metrics import MAX_CODES, Meter, exposition
from proxy.tests.fakes import make_completion


class Told(Meter):
    """A meter that tells Prometheus at once."""

    def finished(self, completion):
        super().finished(completion)
        self.publish()


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def finished(provider="unit", model="m", **fields):
    values = {"provider": provider, "model": model, "status": 200, "outcome": "ok", "latency_ms": 20.0}
    return make_completion(**{**values, **fields})


def series(name, label, provider):
    """Return the values of one label under a provider."""
    return {
        sample.labels[label]
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and sample.labels.get("provider") == provider
    }


def test_it_counts_a_finished_request():
    meter = Told()
    labels = {"endpoint": "chat", "provider": "unit-a", "model": "m"}
    meter.finished(
        finished(
            "unit-a",
            cache="miss",
            ttft_ms=10.0,
            overhead_ms=1.0,
            usage=Usage(10, 5, cached=4, cache_write=2, reasoning=3),
            attempts=[
                Attempt("unit-a", "m", 0.0, outcome="upstream_reset"),
                Attempt("unit-a", "m", 1.0, outcome="ok"),
            ],
        )
    )
    assert value("gateway_requests_total", **labels, status="200", outcome="ok", cache="miss") == 1
    assert value("gateway_request_seconds_sum", **labels) == pytest.approx(0.02)
    assert value("gateway_ttft_seconds_sum", provider="unit-a", model="m") == pytest.approx(0.01)
    tokens = {
        kind: value("gateway_tokens_total", provider="unit-a", model="m", kind=kind)
        for kind in metrics.TOKEN_KINDS
    }
    assert tokens == {"prompt": 10, "completion": 5, "cached": 4, "cache_write": 2, "reasoning": 3}
    assert series("gateway_attempts_total", "outcome", "unit-a") == {"upstream_reset", "ok"}


def test_it_counts_an_error_by_its_code():
    Told().finished(finished("unit-b", status=502, outcome="error", error_code="upstream_reset"))
    assert value("gateway_errors_total", endpoint="chat", provider="unit-b", code="upstream_reset") == 1


def test_it_counts_no_tokens_of_a_hit():
    meter = Told()
    before = value("gateway_cache_total", result="hit")
    meter.finished(finished("unit-c", cache="hit", usage=Usage(10, 5)))
    assert value("gateway_tokens_total", provider="unit-c", model="m", kind="prompt") == 0
    assert value("gateway_cache_total", result="hit") == before + 1


def test_it_counts_what_never_reached_a_provider():
    Told().finished(finished("", "", status=404, outcome="error", error_code="model_not_found"))
    assert value("gateway_errors_total", endpoint="chat", provider="", code="model_not_found") >= 1


def test_it_gives_a_bounded_number_of_models_labels_of_their_own(monkeypatch):
    assert metrics.MAX_MODELS <= 500
    monkeypatch.setattr(metrics, "MAX_MODELS", 10)
    meter = Told()
    for number in range(60):
        meter.finished(finished("unit-d", f"m{number}"))
    assert len(series("gateway_request_seconds_count", "model", "unit-d")) == 10
    assert value("gateway_request_seconds_count", endpoint="chat", provider="other", model="other") >= 50


def test_it_gives_a_bounded_number_of_codes_labels_of_their_own():
    """Vendors make up codes, some with an id in each."""
    meter = Told()
    for number in range(MAX_CODES + 50):
        attempt = Attempt("unit-e", "m", 0.0, outcome=f"a{number}")
        meter.finished(finished("unit-e", error_code=f"e{number}", attempts=[attempt]))
    meter.finished(finished("unit-e", error_code="x" * 200))
    codes = series("gateway_errors_total", "code", "unit-e")
    outcomes = series("gateway_attempts_total", "outcome", "unit-e")
    assert len(codes | outcomes) <= MAX_CODES + 1
    assert "other" in codes
    assert max(map(len, codes)) <= metrics.MAX_CODE_LENGTH


def test_it_knows_how_many_are_being_served():
    meter = Told()
    meter.in_flight = 7
    meter.publish()
    assert value("gateway_in_flight") == 7


def test_it_tells_each_request_once_however_often_it_tells():
    meter = Meter()
    labels = {"endpoint": "chat", "provider": "unit-f", "model": "m"}
    for latency_ms in (1.0, 5.0, 20.0, 700_000.0):
        meter.finished(finished("unit-f", latency_ms=latency_ms))
    assert value("gateway_request_seconds_count", **labels) == 0
    for _ in range(3):
        meter.publish()
    counts = {
        bound: value("gateway_request_seconds_bucket", le=bound, **labels)
        for bound in ("0.005", "0.025", "600.0", "+Inf")
    }
    assert counts == {"0.005": 2, "0.025": 3, "600.0": 3, "+Inf": 4}
    assert value("gateway_request_seconds_sum", **labels) == pytest.approx(700.026)
    meter.finished(finished("unit-f"))
    meter.publish()
    assert value("gateway_request_seconds_count", **labels) == 5


def test_it_counts_what_happens_in_providers_queues():
    meter = Meter()
    for wait_s in (0.003, 0.02, 2.0):
        meter.queued("unit-q", wait_s)
    meter.queue_refused("unit-q")
    meter.queue_refused("unit-q")
    meter.truncated("unit-q")
    assert value("gateway_queue_refused_total", provider="unit-q") == 0
    for _ in range(2):
        meter.publish()
    counts = {
        bound: value("gateway_queue_wait_seconds_bucket", le=bound, provider="unit-q")
        for bound in ("0.005", "0.025", "+Inf")
    }
    assert counts == {"0.005": 1, "0.025": 2, "+Inf": 3}
    assert value("gateway_queue_wait_seconds_sum", provider="unit-q") == pytest.approx(2.023)
    assert value("gateway_queue_refused_total", provider="unit-q") == 2
    assert value("gateway_streams_truncated_total", provider="unit-q") == 1


def test_it_asks_how_many_wait_when_it_tells():
    meter = Meter()
    waiting = {"unit-r": 3, "unit-s": 1}
    meter.depths = lambda: dict(waiting)
    meter.publish()
    assert value("gateway_queue_depth", provider="unit-r") == 3
    del waiting["unit-r"]  # its provider's row is gone
    meter.publish()
    assert value("gateway_queue_depth", provider="unit-r") == 0
    assert value("gateway_queue_depth", provider="unit-s") == 1


def test_it_writes_all_of_it_as_text(tmp_path):
    (tmp_path / "a-0-00000001.seg").write_bytes(b"12345")
    (tmp_path / "a-0-00000002.open").write_bytes(b"123")
    text = exposition(tmp_path).decode()
    assert re.search(r"^gateway_spool_backlog_segments 1\.0$", text, re.MULTILINE)
    assert re.search(r"^gateway_spool_backlog_bytes 5\.0$", text, re.MULTILINE)
    assert "# TYPE gateway_request_seconds histogram" in text


def test_it_adds_up_the_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    # No worker has written anything there yet.
    assert b"gateway_requests_total{" not in exposition(tmp_path)
