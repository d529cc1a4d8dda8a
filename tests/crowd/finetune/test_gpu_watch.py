"""Laws of the watch: what the driver says is a share, what it cannot say is nothing, and a CPU is not asked."""

import threading

import pytest
import torch

from sentifuse.crowd.finetune.gpu_watch import GpuWatch, parse_share


@pytest.mark.parametrize(
    ("text", "share"), [("87\n", 0.87), ("0\n", 0.0), ("100", 1.0), ("[N/A]\n", None), ("", None), ("No devices", None)]
)
def test_the_drivers_answer_is_a_share(text: str, share: float | None) -> None:
    assert parse_share(text) == share


def test_on_a_cpu_nothing_is_watched() -> None:
    before = threading.active_count()
    with GpuWatch(torch.device("cpu")) as watch:
        assert threading.active_count() == before
        assert watch.share() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_busy_gpu_is_seen() -> None:
    device = torch.device("cuda")
    with GpuWatch(device) as watch:
        x = torch.randn(4096, 4096, device=device)
        share = None
        for _ in range(20_000):
            x = torch.tanh(x @ x)
            if (share := watch.share()) is not None:
                break
    assert share is not None
    assert 0.0 <= share <= 1.0
