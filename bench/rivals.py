"""Other ways to read the same pairs: what people write today, maps read item by item, and a plain copy of memory.

What people write opens the file once, reads each item by the dataset's name and converts it there. All others are
written with care: datasets and views are kept, numbers are stacked as they are stored and converted once.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import torch
from stores import Sizes
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

Rows = np.ndarray[Any, np.dtype[np.int64]]
Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # regions (m, D), tokens (n, D), context (D,)


def collate(items: Sequence[Item]) -> tuple[torch.Tensor, ...]:
    """Padded float32 batches."""
    regions, tokens, context = zip(*items, strict=True)
    lengths = torch.tensor([len(words) for words in tokens])
    padded = pad_sequence(list(tokens), batch_first=True).float()
    mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
    return torch.stack(regions).float(), padded, mask, torch.stack(context)


class Hdf5Items(Dataset[Item]):
    """One HDF5 file, opened in each process when first needed; with or without the care said above."""

    def __init__(self, folder: Path, m: int, *, with_care: bool) -> None:
        self.path, self.m, self.with_care = folder / "store.h5", m, with_care
        self.offsets = np.load(folder / "offsets.npy")
        self.fields: Any = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Item:
        if self.fields is None:
            file = h5py.File(self.path, "r")
            self.fields = {name: file[name] for name in file} if self.with_care else file
        words = slice(self.offsets[row], self.offsets[row + 1])
        regions, tokens, context = (
            torch.from_numpy(self.fields[name][place])
            for name, place in (("regions", (row, slice(0, self.m))), ("tokens", words), ("context", row))
        )
        return (regions, tokens, context) if self.with_care else (regions.float(), tokens.float(), context)


class MappedItems(Dataset[Item]):
    """.npy files mapped by numpy; copy-on-write, so that torch takes the pages without a warning."""

    def __init__(self, folder: Path, m: int) -> None:
        self.m = m
        self.offsets = np.load(folder / "offsets.npy")
        # torch views of the whole maps: cutting these is cheaper than cutting a numpy.memmap
        self.regions, self.tokens, self.context = (
            torch.from_numpy(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")))
            for name in ("regions", "tokens", "context")
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Item:
        return self.regions[row, : self.m], self.tokens[self.offsets[row] : self.offsets[row + 1]], self.context[row]


class ArrowItems(Dataset[Item]):
    """An Arrow IPC file mapped by pyarrow; each column of each record batch becomes a view once."""

    def __init__(self, folder: Path, m: int, sizes: Sizes) -> None:
        self.m = m
        reader = pa.ipc.open_file(pa.memory_map(str(folder / "pairs.arrow")))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.block = batches[0].num_rows
        self.rows = sum(batch.num_rows for batch in batches)
        self.regions = [_torch(b.column(0).values).view(-1, sizes.regions, sizes.region_width) for b in batches]
        self.tokens = [_torch(b.column(1).values).view(-1, sizes.token_width) for b in batches]
        self.offsets = [b.column(1).offsets.to_numpy() // sizes.token_width for b in batches]
        self.context = [_torch(b.column(2).values).view(-1, sizes.context_width) for b in batches]

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Item:
        block, at = divmod(row, self.block)
        offsets = self.offsets[block]
        return (
            self.regions[block][at, : self.m],
            self.tokens[block][offsets[at] : offsets[at + 1]],
            (self.context[block][at]),
        )


def _torch(values: pa.Array) -> torch.Tensor:
    array = values.to_numpy(zero_copy_only=True)
    view = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data))
    tensor = torch.from_numpy(view.view(array.dtype))
    tensor._owner = values  # type: ignore[attr-defined]  # keeps the map alive
    return tensor


def by_items(dataset: Dataset[Item]) -> Callable[[list[Rows]], Iterator[Any]]:
    """Batches made item by item in this process, as DataLoader(num_workers=0) makes them."""

    def read(plan: list[Rows]) -> Iterator[Any]:
        return iter(DataLoader(dataset, batch_sampler=[rows.tolist() for rows in plan], collate_fn=collate))

    return read


def by_workers(dataset: Dataset[Item], workers: int) -> Callable[[list[Rows]], Iterator[Any]]:
    """Batches made by worker processes that live as long as the returned function; its first call starts them."""
    plan_of_workers: list[list[int]] = []
    loader = DataLoader(
        dataset,
        batch_sampler=plan_of_workers,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork",
    )

    def read(plan: list[Rows]) -> Iterator[Any]:
        plan_of_workers[:] = [rows.tolist() for rows in plan]
        return iter(loader)

    return read


class Memcpy:
    """A copy of as many bytes as each batch delivers; two pairs of blocks take turns, as our buffers do."""

    def __init__(self, batch_bytes: Sequence[int]) -> None:
        self.batch_bytes = batch_bytes
        self.blocks = [(np.ones(max(batch_bytes), np.uint8), np.ones(max(batch_bytes), np.uint8)) for _ in range(2)]

    def __call__(self, plan: list[Rows]) -> Iterator[Any]:
        for number, n in enumerate(self.batch_bytes):
            source, target = self.blocks[number % 2]
            np.copyto(target[:n], source[:n])
            yield None
