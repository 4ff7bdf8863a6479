"""What a fault is, and how one is declared."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace

from benchmarks.faults.stand import Stand

Happening = Callable[[Stand], AbstractAsyncContextManager[None]]
Preparation = Callable[[Stand], AbstractAsyncContextManager[Mapping[str, str]]]


class NotHere(Exception):
    """The fault cannot be made on this machine; the text says why."""


def _nothing(_stand: Stand) -> AbstractAsyncContextManager[Mapping[str, str]]:
    return nullcontext({})


@dataclass(frozen=True)
class Fault:
    """Something that fails for a while.

    Args:
        name: as `--only` takes it.
        title: as the table shows it.
        happen: fails on entering, is put right again on leaving.
        lasts_s: from the one to the other.
        prepare: surrounds the life of a server of its own, and gives what to add to its environment; None if
            the fault needs no server of its own.
        keepable: whether the calls in progress could go on.
        kills: the server ends without a chance to store the end of its calls; others have to.
        patience_s: how long to wait for what is to be stored.
        sign: a regular expression of what the server's log says of it.
    """

    name: str
    title: str
    happen: Happening
    lasts_s: float = 10.0
    prepare: Preparation | None = field(default=_nothing)
    keepable: bool = True
    kills: bool = False
    patience_s: float = 20.0
    sign: str = ""


FAULTS: dict[str, Fault] = {}


def fault(title: str, **fields: object) -> Callable[[Callable[[Stand], AsyncIterator[None]]], Happening]:
    """Declare a fault: its name is the function's, with dashes."""

    def declare(function: Callable[[Stand], AsyncIterator[None]]) -> Happening:
        happen = asynccontextmanager(function)
        name = function.__name__.replace("_", "-")
        add(replace(Fault(name, title, happen), **fields))  # type: ignore[arg-type]  # fields of Fault
        return happen

    return declare


def add(one: Fault) -> None:
    """Add a fault to those that are measured."""
    FAULTS[one.name] = one
