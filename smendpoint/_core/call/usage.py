"""How many tokens a call used."""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from typing import NamedTuple


class Usage(NamedTuple):
    """How many tokens a call used; ``None`` if the model did not count them.

    Attributes:
        prompt_tokens: tokens of the input.
        completion_tokens: tokens that the model generated.
        total_tokens: both together, as counted by the model.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
