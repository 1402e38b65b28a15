"""Dependencies of handlers: declared with `Depends`, opened once per worker, closed at its end."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from base.async_runner import Loop
from base.errors import Declaration
from base.schema.model import evaluate_annotation

log = logging.getLogger(__name__)

Provider = Callable[..., Any]


@dataclass(frozen=True)
class Dependency:
    """The mark that `Depends` leaves in a signature."""

    provider: Provider


def Depends(provider: Provider) -> Any:  # noqa: N802 - it stands where a value is named by its kind, as authors know it
    """Marks a parameter of a handler, or of another provider: `db: Connection = svc.Depends(open_db)`.

    Args:
        provider: a function, or an async one, whose result is the value; a generator that yields the value once and is resumed when the
            worker ends; or a class that is a context manager. What a plain function returns is taken as it is and not entered.

    Raises:
        Declaration: the provider cannot be called, or has a parameter that is neither a dependency nor has a default.
    """
    name = getattr(provider, "__name__", str(provider))
    if not callable(provider):
        raise Declaration(f"Depends({name}): give it a function or a class that makes the value, not the value itself")
    _needs(provider, ())
    return Dependency(provider)


class Dependencies:
    """The values of one worker. Used by its serving thread only, which also opens and closes them.

    Args:
        loop: runs what is async.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._values: dict[Provider, Any] = {}
        self._stack = ExitStack()

    def open(self, provider: Provider) -> Any:
        """The provider's value: opened with all that it needs, unless it is open already.

        Raises:
            Exception: what the provider raises. What was opened before stays open until `close`.
        """
        if provider not in self._values:
            needed = {name: self.open(each.provider) for name, each in _needs(provider, ()).items()}
            self._values[provider] = self._enter(provider, needed)
        return self._values[provider]

    def close(self) -> None:
        """Closes all, last opened first. A dependency that fails to close is logged, and the others are closed still. Idempotent."""
        self._values.clear()
        try:
            self._stack.close()
        except BaseException:  # an author's code, at the end of the worker; what else is to be closed has been
            log.exception("a dependency could not be closed")

    def _enter(self, provider: Provider, needed: Mapping[str, Any]) -> Any:
        if inspect.isasyncgenfunction(provider):
            stack = AsyncExitStack()
            value = self._loop.run(stack.enter_async_context(asynccontextmanager(provider)(**needed)))
            self._stack.callback(lambda: self._loop.run(stack.aclose()))
            return value
        if inspect.isgeneratorfunction(provider):
            return self._stack.enter_context(contextmanager(provider)(**needed))
        value = provider(**needed)
        if inspect.iscoroutine(value):
            return self._loop.run(value)
        return self._stack.enter_context(value) if _is_entered(provider) else value


def _is_entered(provider: Provider) -> bool:
    """Whether what it makes is meant to be entered: an instance of a context manager's class, or a function under @contextmanager."""
    if isinstance(provider, type):
        return hasattr(provider, "__enter__")
    return inspect.isgeneratorfunction(inspect.unwrap(provider))


def find_dependency(parameter: inspect.Parameter, annotation: Any) -> Dependency | None:
    """The mark of a parameter, as its default or inside `Annotated`."""
    if isinstance(parameter.default, Dependency):
        return parameter.default
    beside = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((each for each in beside if isinstance(each, Dependency)), None)


def _needs(provider: Provider, above: tuple[Provider, ...]) -> dict[str, Dependency]:
    """What a provider asks for, by parameter.

    Raises:
        Declaration: something else than dependencies, or itself.
    """
    name = getattr(provider, "__name__", str(provider))
    if provider in above:
        raise Declaration(f"Depends({name}): it depends on itself")
    needed: dict[str, Dependency] = {}
    for parameter in _parameters(provider):
        dependency = find_dependency(parameter, _annotation(provider, parameter))
        if dependency is not None:
            _needs(dependency.provider, (*above, provider))
            needed[parameter.name] = dependency
        elif parameter.default is parameter.empty and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise Declaration(f"Depends({name}): nobody can give it {parameter.name!r}: mark that with Depends too, or give it a default")
    return needed


def _parameters(provider: Provider) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(provider).parameters.values())
    except ValueError:  # a class written in C that does not tell: it is called without arguments
        return []


def _annotation(provider: Provider, parameter: inspect.Parameter) -> Any:
    try:
        return evaluate_annotation(parameter.annotation, getattr(provider, "__module__", ""), {})
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated holds no mark, and is nobody's business here
        return parameter.annotation
