"""Work that does not depend on other work, spread over the machine's cores."""

from __future__ import annotations

import concurrent.futures
import functools
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

AHEAD = 64  # calls, at most, that one thread may be ahead of another: what waits for it takes memory

T = TypeVar("T")
R = TypeVar("R")


class Cores(Generic[T]):
    """Calls each of several functions with whatever is given, in the order in which it is given. A context manager.

    Args:
        calls: none looks at what another one does.
        apart: whether they may run at the same time: each in one of as many threads as PyTorch has, all of which share
            PyTorch's threads. Else one after the other, with all of PyTorch's threads for each matrix product.

    Two networks on two cores so wait for each other once in a while, instead of within each product: measured with mlp-128 and its
    control, 128 images a batch, while browsers and a server take half a core: 620 steps a second instead of 430.
    """

    def __init__(self, calls: Sequence[Callable[[T], None]], apart: bool):
        self._threads = torch.get_num_threads()
        lanes = min(len(calls), self._threads) if apart else 1
        self._share = self._threads // lanes
        self._own, *self._theirs = (calls[lane::lanes] for lane in range(lanes))
        self._others: list[_Other] = []
        self._ahead = 0

    def __enter__(self) -> Self:
        self._others = [_Other.free() for _ in self._theirs]
        for other, calls in zip(self._others, self._theirs):
            other.begin(calls, self._share)
        torch.set_num_threads(
            self._threads
        )  # the others have set theirs, which threads that are new would take over
        return self

    def __exit__(self, *_: object) -> None:
        while self._others:
            self._others.pop().end()

    def give(self, what: T) -> None:
        """Returns when this thread's part is done.

        Raises:
            Exception: what a call raised, now or for something given before.
        """
        for other in self._others:
            other.give(what)
        torch.set_num_threads(self._share)
        try:
            for call in self._own:
                call(what)
        finally:
            torch.set_num_threads(self._threads)
        self._ahead += 1
        if self._ahead == AHEAD:
            self.wait()

    def wait(self) -> None:
        """Returns when all that was given is done. Raises as give()."""
        self._ahead = 0
        for other in self._others:
            other.wait()

    def soon(self, call: Callable[[], R]) -> Callable[[], R]:
        """What returns or raises what ``call`` does. It is called before what is given next, in another thread if there is one."""
        return self._others[-1].soon(call) if self._others else call


class _Other(threading.Thread):
    """Another thread. It is used again and again: PyTorch's libraries keep memory for each thread that there ever was."""

    _resting: ClassVar[list[_Other]] = []

    @classmethod
    def free(cls) -> _Other:
        try:
            return cls._resting.pop()
        except IndexError:
            return cls()

    def __init__(self) -> None:
        super().__init__(name="kd-learner", daemon=True)
        self._to_do: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self._to_do.get()()

    def begin(self, calls: Sequence[Callable[[Any], None]], threads: int) -> None:
        """From now on it does ``calls``, with as many of PyTorch's threads."""
        self._calls, self._problem, self._over = calls, None, False
        # PyTorch sets a thread up when it first asks, and would undo what came before.
        self.soon(lambda: (torch.get_num_threads(), torch.set_num_threads(threads)))()

    def give(self, what: Any) -> None:
        self._to_do.put(functools.partial(self._call, what))

    def _call(self, what: Any) -> None:
        try:
            if self._problem is None and not self._over:
                for call in self._calls:
                    call(what)
        except BaseException as error:
            self._problem = error

    def wait(self) -> None:
        self.soon(lambda: None)()
        if self._problem is not None:
            raise self._problem

    def soon(self, call: Callable[[], R]) -> Callable[[], R]:
        done: concurrent.futures.Future[R] = concurrent.futures.Future()

        def work() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        self._to_do.put(work)
        return done.result

    def end(self) -> None:
        """Drops what is not done yet, and rests."""
        self._over = True
        self.soon(lambda: None)()
        self._calls = ()
        self._resting.append(self)
