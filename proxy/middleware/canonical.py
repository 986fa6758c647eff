"""Events as middleware reads them: canonical choices, one event for each of the vendor's chunks.

What only the raw bytes say is gone then: a chunk's own id, name of the model and fields that the canonical
form lacks. A renderer writes its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from providers.events import Event, Kind


def plain(events: Iterable[Event]) -> list[Event]:
    """Return the events without raw bytes. Raises UpstreamError where a vendor's chunk is broken."""
    made: list[Event] = []
    for event in events:
        if not event.raw:
            made.append(event)
        elif event.chunks > 1:
            made += [_of_choice(choice) for choice in event.choices]
        else:
            made.append(
                Event(
                    event.kind,
                    choices=event.choices,
                    usage=event.usage,
                    finish_reasons=event.finish_reasons,
                    error=event.error,
                )
            )
    return made


def _of_choice(choice: Mapping[str, Any]) -> Event:
    """Return the event of one chunk among several that passed together: each has one choice, and content."""
    return Event(Kind.CONTENT, choices=[choice])
