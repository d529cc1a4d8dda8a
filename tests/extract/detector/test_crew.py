from threading import Lock, get_ident

import pytest
import torch

from sentifuse.extract.detector.crew import work_apart


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_piece_is_done_once_and_torchs_threads_stay(threads: int) -> None:
    done: list[int] = []
    tools: set[int] = set()
    lock = Lock()

    def do(piece: int, tool: object) -> None:
        with lock:
            done.append(piece)
            tools.add(id(tool))

    torch.set_num_threads(threads)
    work_apart(do, range(17), object)
    assert sorted(done) == list(range(17))
    assert 1 <= len(tools) <= threads
    assert torch.get_num_threads() == threads


def test_one_thread_stays_in_its_own() -> None:
    idents: list[int] = []
    torch.set_num_threads(1)
    work_apart(lambda piece, tool: idents.append(get_ident()), range(3), object)
    assert set(idents) == {get_ident()}


def test_a_failure_in_a_thread_comes_out() -> None:
    def fail(piece: int, tool: object) -> None:
        raise ValueError(f"piece {piece}")

    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="piece"):
        work_apart(fail, range(3), object)
    assert torch.get_num_threads() == 2
