"""Laws of the sink: HDF5 writes the bytes it always writes, and never meets a failure; the writer does."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sentifuse.cache.sink import Sink

OPTIONS = {"libver": ("v110", "v110"), "alignment_threshold": 1, "alignment_interval": 4096}


def write(file: h5py.File) -> None:
    file.attrs["name"] = "é"
    dataset = file.create_dataset("values", shape=(300, 400), dtype="<f4", fill_time="never")
    for row in range(0, 300, 50):
        dataset[row : row + 50] = np.full((50, 400), row, np.float32)
    file.create_group("more").create_dataset("empty", shape=(0, 3), dtype="<i8")


def test_the_file_is_the_one_that_hdf5_writes_by_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "x", **OPTIONS) as file:
        write(file)
    with Sink(tmp_path / "sink.h5") as sink, h5py.File(sink, "w", driver="fileobj", **OPTIONS) as file:
        write(file)
    assert (tmp_path / "sink.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()


@pytest.mark.parametrize("call", [1, 2, 5, 9])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_comes_out_once_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, failure: BaseException
) -> None:
    whole, calls = os.pwrite, []

    def pwrite(descriptor: int, content: memoryview, offset_bytes: int) -> int:
        calls.append(offset_bytes)
        if len(calls) >= call:
            raise failure
        return whole(descriptor, content, offset_bytes)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with (
        pytest.raises(type(failure)) as caught,
        Sink(tmp_path / "sink.h5") as sink,
        h5py.File(sink, "w", driver="fileobj", **OPTIONS) as file,
    ):
        write(file)
    assert caught.value is failure
    assert len(calls) == call  # nothing more is tried


def test_a_write_that_takes_a_part_goes_on_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, content, offset: whole(fd, content[:1000], offset))
    with Sink(tmp_path / "sink.h5") as sink, h5py.File(sink, "w", driver="fileobj", **OPTIONS) as file:
        write(file)
    with h5py.File(tmp_path / "sink.h5", "r") as file:
        assert file["values"][299, 399] == 250


def test_an_error_of_the_block_that_is_no_failure_of_the_disk_is_that_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Sink(tmp_path / "sink.h5"):
        raise ZeroDivisionError
    with pytest.raises(FileExistsError), Sink(tmp_path / "sink.h5"):
        pass


def test_a_process_that_met_a_full_disk_ends_in_peace(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import h5py, numpy as np
from sentifuse.cache.sink import Sink
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for number in range(3):
    try:
        with Sink(Path(sys.argv[1]) / str(number)) as sink, h5py.File(sink, "w", driver="fileobj") as file:
            file["values"] = np.zeros(100_000)
    except OSError as error:
        print(error.errno)
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{errno.EFBIG}\n" * 3, "")
