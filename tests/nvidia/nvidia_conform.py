"""Keeps stand-ins honest: they have no name, and take no call, that the recorded API of the real thing has not."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from nvidia_api import Api
from nvidia_calls import fits


def conform(kind: type, api: Api, name: str) -> type:
    """Check the members of a stand-in class against the API, and let its methods take what the real ones take."""
    members = api[name]
    for key, value in list(vars(kind).items()):
        is_public = not key.startswith("_")
        if is_public and key not in members:
            raise AssertionError(f"the stand-in has {name}.{key}, which is not in the real API")
        if (is_public or (key == "__init__" and "__init__" in members)) and isinstance(value, types.FunctionType):
            setattr(kind, key, _checked(value, f"{name}.{key}", members[key]))
    return kind


def _checked(function: Callable[..., Any], name: str, overloads: list[Any]) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if overloads and not any(fits(overload[0], len(arguments), list(keywords)) for overload in overloads):
            raise TypeError(f"{name}(): incompatible function arguments; it takes {overloads}")
        return function(self, *arguments, **keywords)

    return call


def make_module(name: str, api: Api, members: dict[str, Any]) -> Any:
    strange = set(members) - set(api[""]) - {"__version__"}
    if strange:
        raise AssertionError(f"the stand-in has {strange}, which {name} has not")
    module = types.ModuleType(name)
    module.__dict__.update(members)
    return module
