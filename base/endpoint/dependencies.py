"""Dependencies of handlers: declared with `Depends`, opened once per worker, and closed when the worker shuts down."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from base.async_runner import AsyncRunner
from base.errors import Declaration
from base.log import get_logger
from base.schema.annotations import evaluate_annotation

log = get_logger(__name__)

Provider = Callable[..., Any]


@dataclass(frozen=True)
class Dependency:
    """The marker that `Depends` leaves in a signature."""

    provider: Provider


def Depends(provider: Provider) -> Any:  # noqa: N802 - capitalized like a class, as authors know it
    """Marks a parameter of a handler, or of another provider, as a dependency: `db: Connection = svc.Depends(open_db)`.

    Args:
        provider: A function or coroutine function that returns the value; a generator that yields the value once and is resumed when the
            worker shuts down; or a class that is a context manager. The result of a plain function is used as it is and not entered.

    Raises:
        Declaration: The provider cannot be called, or one of its parameters has no default and is not a dependency.
    """
    name = _name(provider)
    if not callable(provider):
        raise Declaration(f"Depends({name}): expected a function or a class that makes the value, not the value itself")
    _required_dependencies(provider, ())
    return Dependency(provider)


class Dependencies:
    """The open dependencies of one worker. Only the serving thread uses, opens and closes them.

    Args:
        loop: Runs async providers.
    """

    def __init__(self, loop: AsyncRunner) -> None:
        self._loop = loop
        self._values: dict[Provider, Any] = {}
        self._stack = ExitStack()

    def open(self, provider: Provider) -> Any:
        """Returns the provider's value, and opens it and its own dependencies first unless they are open already.

        Raises:
            Exception: The provider raised it. Dependencies that were opened before stay open until `close`.
        """
        if provider not in self._values:
            needed = {name: self.open(each.provider) for name, each in _required_dependencies(provider, ()).items()}
            self._values[provider] = self._enter(provider, needed)
        return self._values[provider]

    def close(self) -> None:
        """Closes all dependencies, the last opened first. Logs a dependency that fails to close, and closes the others. Idempotent."""
        self._values.clear()
        try:
            self._stack.close()
        except BaseException:  # an author's code at the worker's shutdown; the other dependencies have been closed
            log.exception("a dependency could not be closed")

    def _enter(self, provider: Provider, needed: Mapping[str, Any]) -> Any:
        if inspect.isasyncgenfunction(provider):
            stack = AsyncExitStack()
            value = self._loop.run_coroutine(stack.enter_async_context(asynccontextmanager(provider)(**needed)))
            self._stack.callback(lambda: self._loop.run_coroutine(stack.aclose()))
            return value
        if inspect.isgeneratorfunction(provider):
            return self._stack.enter_context(contextmanager(provider)(**needed))
        value = provider(**needed)
        if inspect.iscoroutine(value):
            return self._loop.run_coroutine(value)
        return self._stack.enter_context(value) if _is_entered(provider) else value


def _is_entered(provider: Provider) -> bool:
    """Returns True for a class of context managers and for a function decorated with @contextmanager."""
    if isinstance(provider, type):
        return hasattr(provider, "__enter__")
    return inspect.isgeneratorfunction(inspect.unwrap(provider))


def find_dependency(parameter: inspect.Parameter, annotation: Any) -> Dependency | None:
    """Returns the `Depends` marker of a parameter, which is its default or inside `Annotated`; None without one."""
    if isinstance(parameter.default, Dependency):
        return parameter.default
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((each for each in metadata if isinstance(each, Dependency)), None)


def _required_dependencies(provider: Provider, dependents: tuple[Provider, ...]) -> dict[str, Dependency]:
    """Returns the dependencies of a provider by parameter.

    Args:
        provider: The provider whose signature is read.
        dependents: The providers that depend on it, the outermost first.

    Raises:
        Declaration: The provider depends on itself, or has a parameter that cannot be filled.
    """
    name = _name(provider)
    if provider in dependents:
        raise Declaration(f"Depends({name}): it depends on itself")
    needed: dict[str, Dependency] = {}
    for parameter in _parameters(provider):
        dependency = find_dependency(parameter, _annotation(provider, parameter))
        if dependency is not None:
            _required_dependencies(dependency.provider, (*dependents, provider))
            needed[parameter.name] = dependency
        elif parameter.default is parameter.empty and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise Declaration(f"Depends({name}): parameter {parameter.name!r} has no value; mark it with Depends, or give it a default")
    return needed


def _name(provider: Provider) -> str:
    return getattr(provider, "__name__", str(provider))


def _parameters(provider: Provider) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(provider).parameters.values())
    except ValueError:  # a class written in C without a signature is called without arguments
        return []


def _annotation(provider: Provider, parameter: inspect.Parameter) -> Any:
    try:
        return evaluate_annotation(parameter.annotation, getattr(provider, "__module__", ""), {})
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated holds no marker, and is not reported here
        return parameter.annotation
