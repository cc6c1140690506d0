"""The models of an emulator. They are checked when they are set, so that the error appears at the mistake."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from typing import cast

from smendpoint.emulator.models import AnyModel, Model, forward
from smendpoint.emulator.personalities import PERSONALITIES, personality
from smendpoint.errors import ConfigurationError

# These make a model when they are called, but are not models.
_MAKERS = frozenset({forward, *(getattr(maker, "func", maker) for maker in PERSONALITIES.values())})


def to_model(model: object, whose: str) -> Model:
    """Return the model for a callable, or for the name of a personality.

    Args:
        whose: its endpoints, for messages.

    Raises:
        ConfigurationError: There is no such personality, or it cannot be called with one request.
    """
    if isinstance(model, str):
        return personality(model)
    if not callable(model):
        raise ConfigurationError(
            f"the model {whose} must be a callable that takes a ModelRequest, or the name of a personality; a"
            f" {type(model).__name__} is neither"
        )
    if model in _MAKERS:
        raise ConfigurationError(
            f"the model {whose} is the function {getattr(model, '__name__', model)}, which makes a model: call it"
        )
    try:
        inspect.signature(model).bind(None)
    except TypeError as error:
        hint = "; this is a class: did you mean an instance of it?" if inspect.isclass(model) else ""
        raise ConfigurationError(f"the model {whose} cannot be called with one ModelRequest: {error}{hint}") from None
    except ValueError:  # some callables written in C have no signature
        pass
    return cast("Model", model)  # its answer is checked when it is called


class Models(MutableMapping[str, AnyModel]):
    """The models that were set, by endpoint name. Setting a model checks it.

    Args:
        models: models by endpoint name, or one for every name; ``None`` for the stand-in.
    """

    def __init__(self, models: Mapping[str, AnyModel] | AnyModel | None) -> None:
        self._default: Model | None = None
        self._models: dict[str, tuple[AnyModel, Model]] = {}
        if isinstance(models, Mapping):
            self.update(models)
        else:
            self._default = to_model("stand_in" if models is None else models, "of every endpoint")

    def find(self, name: str) -> Model | None:
        """Return the model that answers for an endpoint."""
        return self._models.get(name, (None, self._default))[1]

    def replace(self, models: Mapping[str, AnyModel]) -> None:
        """Replace all models; if one of them is not a model, none is changed."""
        self._models = Models(models)._models

    def __setitem__(self, name: str, model: AnyModel) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"models must be named by their endpoints; {name!r} is not an endpoint's name")
        self._models[name] = model, to_model(model, f"of endpoint {name!r}")

    def __getitem__(self, name: str) -> AnyModel:
        return self._models[name][0]

    def __delitem__(self, name: str) -> None:
        del self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return repr(dict(self))
