"""What a configuration file says, read and checked by itself, before any row is looked at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the file: the columns it gives (absent = unchanged) and where it stands.

    `rate_limits`, `budgets`, `targets` and `further` are None when not given; an empty list removes them
    all. `chains` has the lists that a route gives besides its targets, by role.
    `given` names the fields that stand there, right or wrong.
    `secret` is a credential as written, and "" for none; None when not given. `further` are a provider's
    further ones.
    """

    path: str
    row: Row
    given: Collection[str] = ()
    secret: str | None = field(default=None, repr=False)
    rate_limits: Sequence[Row] | None = None
    budgets: Sequence[Row] | None = None
    targets: Sequence[Row] | None = None
    chains: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    further: Sequence["Entry"] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """The whole file. Lists of objects are upserted by name; None and absent = unchanged."""

    settings: Row
    providers: Sequence[Entry]
    routes: Sequence[Entry]
    exclusions: Sequence[Row] | None
    tenants: Sequence[Entry]
    keys: Sequence[Entry]
    prices: Sequence[Entry]
    rate_limits: Sequence[Row] | None
    budgets: Sequence[Row] | None
