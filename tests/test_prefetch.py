"""Items go through in order and a few at a time; errors and endings come where they belong."""

import threading
import time
import warnings

import pytest
from PIL import Image

from covidxray.data.images import read_image
from covidxray.data.prefetch import batched, ordered_map
from covidxray.errors import InputError


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("pipeline")]


def test_results_come_in_order_however_long_each_takes():
    def slow_first(i):
        time.sleep(0.02 if i % 3 == 0 else 0)
        return i * i

    assert list(ordered_map(slow_first, range(40), threads=4)) == [i * i for i in range(40)]
    assert not threads()


def test_no_more_than_the_look_ahead_is_begun():
    begun = []
    results = ordered_map(begun.append, range(1000), threads=3, ahead=8)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.002)
        assert len(begun) <= taken + 7
    results.close()
    assert not threads()
    assert len(begun) <= 19 + 8


def test_the_next_item_is_at_work_while_a_result_is_used():
    begun = [threading.Event() for _ in range(6)]
    results = ordered_map(lambda i: begun[i].set() or i, range(6), threads=1, ahead=2)
    for i in range(4):
        assert next(results) == i
        assert begun[i + 1].wait(5)
        assert not begun[i + 2].wait(0.01)
    assert list(results) == [4, 5]
    assert not threads()


def test_batches_hold_all_items_in_order_and_only_the_last_is_smaller():
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched(iter([]), 3)) == []


def test_an_error_is_raised_at_its_item_and_ends_the_threads():
    def fails_at_five(i):
        if i == 5:
            raise InputError("five")
        return i

    taken = []
    with pytest.raises(InputError, match="five"):
        for result in ordered_map(fails_at_five, range(100), threads=4):
            taken.append(result)
    assert taken == [0, 1, 2, 3, 4]
    assert not threads()


def test_ctrl_c_leaves_no_thread_and_begins_nothing_more():
    begun = []

    def items():
        yield from range(10)
        raise KeyboardInterrupt

    def work(i):
        begun.append(i)
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(work, items(), threads=2, ahead=50))
    assert not threads()
    assert len(begun) < 10


def test_many_threads_that_decode_leave_the_warning_filters_as_they_were(tmp_path, picture):
    path = tmp_path / "x.jpg"
    path.write_bytes(picture(1, "JPEG"))
    before = list(warnings.filters)
    list(ordered_map(read_image, [path] * 200, threads=8))
    assert warnings.filters == before


def test_a_picture_too_big_is_refused_in_a_thread_too(tmp_path, monkeypatch):
    path = tmp_path / "big.png"
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="too many pixels"):
        list(ordered_map(read_image, [path] * 20, threads=4))
