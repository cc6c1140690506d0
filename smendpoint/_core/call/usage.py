"""How many tokens a call used."""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from typing import NamedTuple


class Usage(NamedTuple):
    """How many tokens a call used; ``None`` where the model did not say.

    Attributes:
        prompt_tokens: tokens of the input.
        completion_tokens: tokens that the model generated.
        total_tokens: both together, as the model counted them.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
