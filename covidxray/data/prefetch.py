"""Read ahead in threads: results in order, and a limited number of items started in advance.

Threads are enough, because decoders, OpenCV, hashing and the backend release Python's lock.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from covidxray.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = min(4, os.cpu_count() or 1)
AHEAD = 32  # items that are started before the first result is taken: two batches


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last list may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def attempt(function: Callable[[Item], Result]) -> Callable[[Item], Result | InputError]:
    """The same function, but it returns an InputError instead of raising it."""

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
    """`map` in threads; at most `ahead` items are started before the first result is taken.

    An item's exception is raised in place of its result. However the iteration ends (exception,
    Ctrl-C, generator closed), no further item is started and the threads have ended.
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
