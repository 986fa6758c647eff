"""One provider of each dialect, all at the conformance kit's fake vendor."""

from typing import Any

import pytest
import yaml

from tests.upstream import UPSTREAM_KEY

# Where the fake vendor plays each of them: ../shared/conformance/README.md.
PATHS = {
    "openai": "/openai/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini",
    "mistral": "/mistral/v1",
    "ollama": "/ollama",
}
# Providers of the same dialects whose rows say to drop what cannot be expressed.
DROPPING = "dropping-"

# Models of the fake vendor's that call two tools, having thought where they do, and
# models that go on from there. Made-up answers in Gemini's format are not signed; recorded ones are.
CALLING = {
    "openai": "synthetic~tool=2",
    "anthropic": "claude-sonnet-4-5~tool=2~reasoning=3",
    "gemini": "gemini-generate-d14-partools-tool",
    "mistral": "synthetic~tool=2~reasoning=3",
    "ollama": "synthetic~tool=2~reasoning=3",
}
GOING_ON = {
    "openai": "synthetic",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3-pro",
    "mistral": "synthetic",
    "ollama": "synthetic",
}

EACH = pytest.mark.parametrize("dialect", PATHS)
TRANSLATED = pytest.mark.parametrize("dialect", [name for name in PATHS if name != "openai"])


def providers_at(url: str) -> list[dict[str, Any]]:
    """Return the providers of a configuration file, each named as its dialect."""
    return [
        {"name": name, "dialect": name, "base_url": f"{url}{path}", "api_key": UPSTREAM_KEY}
        for name, path in PATHS.items()
    ]


def dropping_at(url: str) -> list[dict[str, Any]]:
    """Return the same providers under the names of DROPPING."""
    return [
        {**each, "name": f"{DROPPING}{each['name']}", "drop_unsupported_params": True}
        for each in providers_at(url)
    ]


def all_dialects(url: str, **more: Any) -> dict[str, str]:
    """Return the configuration files of a gateway with every dialect at `url`; `more` adds sections."""
    return {"config.yaml": yaml.safe_dump({"version": 1, "providers": providers_at(url), **more})}
