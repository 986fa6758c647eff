"""The texts of a canonical embeddings request, for vendors that embed text only."""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.dialects.params import invalid
from providers.errors import UnsupportedParameter


def texts_to_embed(body: Mapping[str, Any]) -> str | Sequence[str]:
    """Return `input`: a text or several. Raises UnsupportedParameter for tokens and for anything else."""
    wanted = body.get("input")
    if isinstance(wanted, str):
        return wanted
    if isinstance(wanted, list) and wanted and all(isinstance(text, str) for text in wanted):
        return wanted
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], (int, list)):
        raise UnsupportedParameter(
            "input", "'input' must be text: tokens mean nothing to a model of another vendor than theirs."
        )
    raise invalid("input", "must be a string or a list of strings")


def check_encoding(body: Mapping[str, Any]) -> None:
    """Raise UnsupportedParameter for an encoding that the gateway does not make."""
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise invalid("encoding_format", 'must be "float" or "base64"')
