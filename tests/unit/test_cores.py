"""Parallel work: each function gets all its inputs in order, and PyTorch's threads are divided."""

import threading

import pytest
import torch

from kd.training.threads import MAX_AHEAD, LearnerThreads


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def noting(notes):
    return lambda given: notes.append((given, threading.current_thread().name, torch.get_num_threads()))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("apart", [True, False])
def test_each_thread_gets_all_its_work_in_order(threads, count, apart):
    notes = [[] for _ in range(count)]
    with LearnerThreads([noting(its) for its in notes], apart) as cores:
        for given in range(3 * MAX_AHEAD + 5):
            cores.broadcast(given)
        cores.wait()
        assert [[given for given, *_ in its] for its in notes] == [list(range(3 * MAX_AHEAD + 5))] * count


def test_pytorch_threads_are_divided_among_parallel_work(threads):
    notes = [[], []]
    with LearnerThreads([noting(its) for its in notes], parallel=True) as cores:
        cores.broadcast(0)
        cores.wait()
        assert torch.get_num_threads() == threads
    (_, here, own), (_, there, others) = notes[0][0], notes[1][0]
    assert own == others == (threads if threads == 1 else threads // 2)
    assert (here == there) == (threads == 1)


def test_sequential_work_runs_in_the_caller_with_all_threads(threads):
    notes = []
    with LearnerThreads([noting(notes), noting(notes)], parallel=False) as cores:
        cores.broadcast(0)
        cores.wait()
    assert notes == [(0, threading.current_thread().name, threads)] * 2


def test_later_thread_has_all_pytorch_threads(threads):
    with LearnerThreads([lambda given: None] * 2, parallel=True) as cores:
        cores.broadcast(0)
        cores.wait()
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [threads]


@pytest.mark.parametrize("which", [0, 1])
def test_error_is_raised_in_the_caller_and_stops_further_calls(which, threads):
    called = []

    def fails(given):
        called.append(given)
        raise ValueError("no")

    calls = [lambda given: None, lambda given: None]
    calls[which] = fails
    with pytest.raises(ValueError, match="no"), LearnerThreads(calls, parallel=True) as cores:
        for given in range(2 * MAX_AHEAD):
            cores.broadcast(given)
    assert called == [0]


def test_unfinished_work_is_dropped_at_the_end(threads):
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow(given):
        begun.set()
        go_on.wait(10)
        done.append(given)

    with LearnerThreads(
        [lambda given: None, slow] if threads > 1 else [lambda given: None], parallel=True
    ) as cores:
        for given in range(10):
            cores.broadcast(given)
        if threads > 1:
            begun.wait(10)
            threading.Timer(0.05, go_on.set).start()
    assert done in ([], [0])


def test_threads_are_reused(threads):
    def use():
        notes = [[], []]
        with LearnerThreads([noting(its) for its in notes], parallel=True) as cores:
            cores.broadcast(0)
        return notes

    use()
    before = threading.active_count()
    for _ in range(20):
        use()
    assert threading.active_count() <= before


def test_error_of_one_use_is_forgotten_in_the_next(threads):
    def fails(given):
        raise ValueError("no")

    with (
        pytest.raises(ValueError, match="no"),
        LearnerThreads([lambda given: None, fails], parallel=True) as cores,
    ):
        cores.broadcast(0)
        cores.wait()
    notes = []
    with LearnerThreads([lambda given: None, noting(notes)], parallel=True) as cores:
        cores.broadcast(1)
        cores.wait()
    assert [given for given, *_ in notes] == [1]


def test_future_returns_its_result_or_raises_its_error(threads):
    with LearnerThreads([lambda given: None, lambda given: None], parallel=True) as cores:
        one, other = cores.submit(lambda: 1), cores.submit(lambda: 1 / 0)
        assert one() == 1
        with pytest.raises(ZeroDivisionError):
            other()
        cores.broadcast(0)
        cores.wait()  # the error belonged to the future, not to a call
