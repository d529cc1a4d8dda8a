"""Sixteen processes read a feature set, forked and spawned, while this one adds shards to it.

    readers.py FOLDER SHARDS

One JSON object on stdout: how often the set was opened, how many generations were seen, how many rows were proved. Any
error in any process, a generation or a row that goes away, or a value that is not the one written ends it with code 1.
"""

import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.reader import READERS, FeatureReader
from sentifuse.cache.spec import Array, Field, Row
from sentifuse.cache.writer import FeatureWriter

FIELDS = (
    Field(name="grid", dtype="float16", shape=(3, 4)),
    Field(name="states", dtype="float32", shape=(5,), is_ragged=True),
)
PROCESSES, FIRST, ROWS = 16, 5, 4


def values_of(row_id: str) -> dict[str, Array]:
    number = int(row_id)
    return {
        "grid": np.full((3, 4), number % 2048, np.float16),
        "states": np.full((number % 4, 5), number, np.float32),
    }


def rows_of(number: int) -> list[Row]:
    ids = [str(ROWS * number + place) for place in range(ROWS)]
    return [Row(id=row_id, digest="ab" * 32, status="ok", values=values_of(row_id)) for row_id in ids]


def check(reader: FeatureReader) -> int:
    """Every row is the one that was written; how many there are."""
    reader.prove()
    for row_id in reader:
        for name, value in values_of(row_id).items():
            if not np.array_equal(reader.value(row_id, name), value):
                raise SystemExit(f"row {row_id}, {name}: not what was written")
    return len(reader)


def read(place: int, inherited: FeatureReader, has_ended: Event, answer: Connection) -> None:
    """Open the set again and again until the writer is through, and once more."""
    opened = proved = 0
    generations: list[int] = []
    known: set[str] = set()
    is_last = False
    while not is_last:
        is_last = has_ended.is_set()
        if check(inherited) != ROWS * FIRST:
            raise SystemExit("an old reader is a snapshot, and has not remained one")
        reader = FeatureReader(inherited.feature_set.directory, reader=READERS[place // 2 % 2])
        proved += check(reader)
        opened += 1
        if (generations and reader.generation < generations[-1]) or not known <= set(reader):
            raise SystemExit("a generation or a row has gone away")
        generations.append(reader.generation)
        known = set(reader)
    answer.send((opened, len(set(generations)), proved, len(known)))


def main(folder: Path, shards: int) -> None:
    feature_set = create_feature_set(folder, encoder="tokens", recipe={"encoder": "tokens"}, fields=FIELDS)
    append(feature_set, 0, FIRST)
    reader = FeatureReader(feature_set)
    check(reader)  # its files are mapped here, before the fork
    contexts = [multiprocessing.get_context(("fork", "spawn")[place % 2]) for place in range(PROCESSES)]
    ended = [context.Event() for context in contexts]
    pipes = [context.Pipe(duplex=False) for context in contexts]
    processes = [
        context.Process(target=read, args=(place, reader, ended[place], pipes[place][1]))  # type: ignore[attr-defined]
        for place, context in enumerate(contexts)
    ]
    for process in processes:
        process.start()
    try:
        append(feature_set, FIRST, FIRST + shards)
    finally:
        for event in ended:
            event.set()
    found = []
    for (receiving, sending), process in zip(pipes, processes, strict=True):
        sending.close()
        try:
            found.append(receiving.recv())
        except EOFError:
            raise SystemExit("a reader failed") from None
        process.join()
    if {rows for *_, rows in found} != {ROWS * (FIRST + shards)} or any(process.exitcode for process in processes):
        raise SystemExit(f"rows seen at the end: {[rows for *_, rows in found]}")
    opened, generations, proved, _ = zip(*found, strict=True)
    result = {"opened": sum(opened), "generations seen by each": generations, "rows proved": sum(proved)}
    sys.stdout.write(json.dumps(result) + "\n")


def append(feature_set: FeatureSet, first: int, last: int) -> None:
    with FeatureWriter(feature_set) as writer:
        for number in range(first, last):
            writer.commit(writer.stage(number, rows_of(number)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
