"""Turns: one at a time, in order, with a limit."""

import threading

import pytest

from aa_jax.web.turns import Turns


def test_one_at_a_time_in_the_order_of_arrival():
    turns, order, busy = Turns(4), [], threading.Lock()
    line = [turns.join() for _ in range(5)]
    assert [turn.ahead for turn in line] == [0, 1, 2, 3, 4]

    def use(number):
        with line[number]:
            while line[number].wait(60):
                pass
            assert busy.acquire(blocking=False)
            order.append(number)
            busy.release()

    threads = [threading.Thread(target=use, args=[number]) for number in (4, 2, 3, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2, 3, 4] and not turns.line


def test_whoever_comes_after_the_last_place_is_told():
    turns = Turns(1)
    with turns.join():
        waiting = turns.join()
        with pytest.raises(ValueError, match="1 animation is waiting, and there is no place for more"):
            turns.join()
        with waiting:
            assert waiting.wait(0.01) == 1
        with turns.join() as after:
            assert after.ahead == 1
    with turns.join() as alone:
        assert alone.ahead == 0


def test_who_leaves_the_line_or_fails_makes_place():
    turns = Turns(2)
    first, second, third = turns.join(), turns.join(), turns.join()
    with second:
        pass
    assert third.ahead == 1
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    assert third.wait(0) == 0
