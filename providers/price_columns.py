"""The rates of a Price row: nano-dollars per million tokens of each kind, and of long prompts."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from config.money import UsdField
from providers.pricing import RATE_NAMES
from providers.tiers import read_tiers


def check_tiers(value: Any) -> None:
    """Refuse what is no list of tiers."""
    try:
        read_tiers(value, RATE_NAMES)
    except ValueError as problem:
        raise ValidationError(str(problem), code="tiers") from None


def _rate_of_part(name: str, what: str) -> UsdField:
    return UsdField(
        name,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=f"US dollars per million {what}",
    )


class PriceColumns(models.Model):
    """The rates; what an empty one falls back to is said in providers.pricing, too."""

    input_nanousd_per_mtok = UsdField(
        "input", validators=[MinValueValidator(0)], help_text="US dollars per million prompt tokens."
    )
    output_nanousd_per_mtok = UsdField(
        "output", validators=[MinValueValidator(0)], help_text="US dollars per million completion tokens."
    )
    cached_input_nanousd_per_mtok = UsdField(
        "cached input",
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="US dollars per million prompt tokens read from the vendor's cache. Empty: as input.",
    )
    cache_write_nanousd_per_mtok = UsdField(
        "cache write",
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="US dollars per million prompt tokens written to the vendor's cache. Empty: as input.",
    )
    cache_write_1h_nanousd_per_mtok = _rate_of_part(
        "longer cache write",
        "prompt tokens written to the vendor's cache for its longer time: an hour at Anthropic, 12 at "
        "OpenAI. Empty: as cache write.",
    )
    reasoning_nanousd_per_mtok = _rate_of_part(
        "reasoning", "completion tokens that were thoughts. Empty: as output."
    )
    audio_input_nanousd_per_mtok = _rate_of_part(
        "audio input", "prompt tokens that are sound. Empty: as input."
    )
    cached_audio_input_nanousd_per_mtok = _rate_of_part(
        "cached audio input",
        "prompt tokens of sound read from the vendor's cache. Empty: as audio input, and without that as "
        "cached input.",
    )
    audio_output_nanousd_per_mtok = _rate_of_part(
        "audio output", "completion tokens that are sound. Empty: as output."
    )
    image_input_nanousd_per_mtok = _rate_of_part(
        "image input", "prompt tokens that are pictures or films. Empty: as input."
    )
    cached_image_input_nanousd_per_mtok = _rate_of_part(
        "cached image input",
        "prompt tokens of pictures read from the vendor's cache. Empty: as image input, and without that as "
        "cached input.",
    )
    image_output_nanousd_per_mtok = _rate_of_part(
        "image output", "completion tokens that are pictures. Empty: as output."
    )
    tiers = models.JSONField(
        "long prompts",
        default=list,
        blank=True,
        validators=[check_tiers],
        help_text="Rates for the whole of a call whose prompt has more than so many tokens, cached ones "
        "counted. What a tier does not say is as below it.",
    )

    class Meta:
        """Columns alone."""

        abstract = True
