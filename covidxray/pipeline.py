"""Work that runs beside the forward pass: a few threads, results in order, a bounded look-ahead.

Decoders, OpenCV, hashing and the backend let other threads run while they work, so threads are
enough; processes would each import all of it again.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from covidxray.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")
THREADS = min(4, os.cpu_count() or 1)
AHEAD = 32  # results that wait to be taken: two batches


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one maybe shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def attempt(function: Callable[[Item], Result]) -> Callable[[Item], Result | InputError]:
    """The same function, but an `InputError` is returned, so that the next items still come."""

    def attempted(item: Item) -> Result | InputError:
        try:
            return function(item)
        except InputError as error:
            return error

    return attempted


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int = THREADS,
    ahead: int = AHEAD,
) -> Iterator[Result]:
    """`map` in threads: no more than `ahead` items are begun before the first result is taken.

    An item's exception is raised where its result would be. Whatever ends the iteration, that or
    Ctrl-C or the generator being closed, nothing more is begun, and the threads have ended.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pipeline")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` in one thread, one item ahead of the results that are used (`ordered_map`)."""
    return ordered_map(function, items, threads=1, ahead=2)
