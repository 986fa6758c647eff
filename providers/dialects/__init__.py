"""The dialects by name; the only table of them."""

from collections.abc import Mapping

from providers.dialects.base import Dialect
from providers.dialects.openai import OpenAI

DIALECTS: Mapping[str, Dialect] = {"openai": OpenAI()}
