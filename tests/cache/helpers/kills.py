"""Kills writers of small feature sets, lets others go on, and compares what comes out with an undisturbed store.

    kills.py gaps FOLDER MOST        a kill before each step that changes the disk, and one with half of it done; of
                                     steps that come again and again at most MOST, the first and the last among them
    kills.py moments FOLDER COUNT    COUNT kills at random moments, up to three in a row for one store

One JSON object on stdout: kills by step, and how many stores were compared. A store that is not what it must be ends
the run with a message. The victims are forked from this process, which never touches a store itself, so each is a new
process as far as the store can tell, without a second of imports.
"""

import gc
import json
import mmap
import os
import random
import shutil
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np

from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.journal import read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter, commit_parts

FIELDS = (
    Field(name="grid", dtype="float16", shape=(3, 4)),
    Field(name="states", dtype="float32", shape=(5,), is_ragged=True),
)
WHOLE, PARTED, REPLACED, ADDED, PARTS = 3, 3, 1, 2, 2
SIZE_BYTES = 256  # of the note in which a victim says where it is


# What a victim does: everything that changes a store, each thing only where it was not done before.


def rows_of(number: int, version: int = 0) -> list[Row]:
    rng = np.random.default_rng([number, version])
    rows = []
    for place in range(5):
        row_id = f"pair é{number}-{place}"
        digest = sha256(f"{row_id} {version}".encode()).hexdigest()
        if place == 3:
            rows.append(Row(id=row_id, digest="", status="missing"))
            continue
        values = {
            "grid": rng.normal(size=(3, 4)).astype(np.float16),
            "states": rng.normal(size=((number + place) % 4, 5)).astype(np.float32),
        }
        rows.append(Row(id=row_id, digest=digest, status="ok", values=values, batch=place // 2))
    return rows


def all_rows() -> dict[str, Row]:
    """What the store holds in the end."""
    versions = {number: int(number == REPLACED) for number in range(WHOLE + PARTED + ADDED)}
    return {row.id: row for number, version in versions.items() for row in rows_of(number, version)}


def do_all(directory: Path) -> None:
    feature_set = create_feature_set(
        directory, encoder="tokens", recipe={"encoder": "tokens"}, fields=FIELDS, details={"path": "/x"}
    )
    if not read_journal(feature_set.journal()).rewritten:
        before_compaction(feature_set)
    with FeatureWriter(feature_set) as writer:
        for number in range(WHOLE + PARTED, WHOLE + PARTED + ADDED):
            if number not in writer.shard_numbers:
                writer.commit(writer.stage(number, rows_of(number)))


def before_compaction(feature_set: FeatureSet) -> None:
    with FeatureWriter(feature_set) as writer:
        for number in reversed(range(WHOLE)):  # closing has the journal to put in order
            if number not in writer.shard_numbers:
                writer.commit(writer.stage(number, rows_of(number)))
    for part in range(PARTS):
        with FeatureWriter(feature_set, part=(part, PARTS)) as writer:
            for number in range(WHOLE, WHOLE + PARTED):
                if number % PARTS == part and number not in writer.shard_numbers:
                    writer.commit(writer.stage(number, rows_of(number)))
    commit_parts(feature_set)
    with FeatureWriter(feature_set) as writer:
        writer.replace(writer.stage(REPLACED, rows_of(REPLACED, version=1)))
        rows = [row for number in range(WHOLE + PARTED) for row in rows_of(number, int(number == REPLACED))]
        writer.rewrite([writer.stage(number, rows[10 * number : 10 * number + 10]) for number in range(3)])


# Where a victim is: every call that changes the disk is a step.


class Steps:
    """Counts the steps of this process, notes the last one where the parent can see it, and kills before one.

    Parameters
    ----------
    note : mmap
        Shared with the parent.
    last : int or None
        Kill this process before step `last`, counted from 0; None: never.
    is_torn : bool
        Where something is written, or forced to the disk: leave half of it there before the kill; where a file is
        opened anew: leave it empty.
    is_hasty : bool
        Do not wait for the disk: a kill, unlike a power cut, takes nothing from what the system was given.
    """

    def __init__(
        self, directory: Path, note: mmap.mmap, last: int | None, *, is_torn: bool = False, is_hasty: bool = False
    ) -> None:
        self.directory = str(directory)
        self.note = note
        self.last = last
        self.is_torn = is_torn
        self.is_hasty = is_hasty
        self.names: list[tuple[str, bool]] = []  # and whether something can be half done there
        self.sizes_bytes: dict[str, int] = {}  # of files when they were opened for appending

    def watch(self) -> None:
        """From now on, for good: an audit hook cannot be taken out again."""
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def watched_fsync(descriptor: int) -> None:
            self._fsync(descriptor)
            if not self.is_hasty:
                fsync(descriptor)

        os.fsync = watched_fsync
        pwrite = os.pwrite

        def watched_pwrite(descriptor: int, content: memoryview, offset_bytes: int) -> int:
            half = content[: len(content) // 2]
            self.step("a piece of a shard file is written", tear=lambda: pwrite(descriptor, half, offset_bytes))
            return pwrite(descriptor, content, offset_bytes)

        os.pwrite = watched_pwrite

    def step(self, name: str, tear: Callable[[], object] | None = None) -> None:
        if len(self.names) == self.last:
            self.last = None  # what follows is no step
            if self.is_torn and tear is not None:
                tear()
                name += ", half of it there"
            self._say(name)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        self.names.append((name, tear is not None))
        self._say(name)

    def _say(self, name: str) -> None:
        content = name.encode()
        self.note[: len(content) + 1] = content + b"\0"

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        if event == "fcntl.flock":
            self.step("a lock is taken")
        elif event == "open" and isinstance(args[0], (str, bytes)) and int(str(args[2])) & (os.O_RDWR | os.O_WRONLY):
            path, flags = os.fsdecode(args[0]), int(str(args[2]))
            if path.startswith(self.directory):
                size_bytes = Path(path).stat().st_size if Path(path).exists() else 0
                self.sizes_bytes[path] = size_bytes if flags & os.O_APPEND else 0
                empty = (lambda: os.truncate(path, 0)) if size_bytes and flags & os.O_TRUNC else None
                self.step(f"{self._thing(path)} is opened", tear=empty)
        elif event == "os.rename":
            self.step(f"{self._thing(os.fsdecode(args[1]))} gets its name")  # type: ignore[arg-type]
        elif event == "os.truncate":
            self.step("a shard file gets its length")
        elif event in ("os.remove", "os.mkdir"):
            path = os.fsdecode(args[0])  # type: ignore[arg-type]
            # What was renamed is removed once more under its temporary name, in vain.
            if path.startswith(self.directory) and (event != "os.remove" or os.path.lexists(path)):
                self.step(f"{self._thing(path)} is {'made' if event == 'os.mkdir' else event[3:] + 'd'}")

    def _fsync(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        state = os.fstat(descriptor)
        name = f"{self._thing(path)} is forced to the disk"
        if not stat.S_ISREG(state.st_mode):
            self.step(name)
            return
        before = self.sizes_bytes.get(path, 0)
        self.step(name, tear=lambda: os.truncate(path, before + (state.st_size - before) // 2))

    def _thing(self, path: str) -> str:
        name = Path(path).name
        if Path(path).is_dir():
            return f"the folder {'shards' if name == 'shards' else 'of the set'}"
        for part, thing in (
            (".owner", "the note of an owner"),
            ("journal.part-", "the journal of a part"),
            ("journal", "the journal"),
            ("index.json", "the index"),
            ("recipe.json", "the recipe"),
            ("lock", "a lock"),
        ):
            if part in name:
                return thing if not name.startswith(".") else f"{thing} under another name"
        if Path(path).suffix == ".h5":
            return "a shard" if Path(path).parent.name == "shards" else "a shard file"
        return "a folder"


def victim(
    directory: Path,
    *,
    last: int | None = None,
    is_torn: bool = False,
    delay_s: float | None = None,
    is_hasty: bool = True,
) -> str:
    """Fork a process that does all, and let it be killed; the step it was at, "" when it was not killed."""
    note = mmap.mmap(-1, SIZE_BYTES)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Steps(directory, note, last, is_torn=is_torn, is_hasty=is_hasty).watch()
            do_all(directory)
            code = 0
        except BaseException:  # noqa: BLE001  # the end of a process: the parent tells by the code
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    if delay_s is not None:
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    step = note[:].split(b"\0")[0].decode()
    if os.WIFSIGNALED(status):
        return step or "before the first step"
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"a writer failed after the kill, at: {step}")
    return ""


def undisturbed_steps(directory: Path) -> list[tuple[str, bool]]:
    """The steps of a run that nobody disturbs, in their order, and whether something can be half done there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        steps = Steps(directory, mmap.mmap(-1, SIZE_BYTES), None, is_hasty=True)
        steps.watch()
        do_all(directory)
        os.write(writing, json.dumps(steps.names).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as names:
        content = names.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("the undisturbed run failed")
    return [(name, is_tearable) for name, is_tearable in json.loads(content)]


# What must hold.


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith("lock")
    }


def in_child(work: Callable[[], None]) -> None:
    """Do it in a process of its own; a failure there is one here."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001  # as above
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(1)


def check_readable(directory: Path) -> None:
    """What a reader sees right after the kill: whole shards with rows that are among those that were written."""
    folders = [path.parent for path in directory.glob("*/index.json")]
    written = {
        (row.id, row.digest, row.status) for number in range(10) for row in (*rows_of(number), *rows_of(number, 1))
    }
    for folder in folders:
        reader = FeatureReader(folder)
        reader.prove()
        found = {(row_id, reader.digest(row_id), reader.status(row_id)) for row_id in reader}
        if not found <= written:
            raise SystemExit(f"rows that nobody wrote: {sorted(found - written)[:3]}")


def check_whole(directory: Path, expected: dict[str, bytes], killed: Iterable[str]) -> None:
    """Byte for byte the undisturbed store, every row as it was given, and `verify` agrees."""
    found = files_of(directory)
    if found != expected:
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise SystemExit(f"killed at {list(killed)}: {names} are not those of an undisturbed run, in {directory}")
    (folder,) = directory.iterdir()
    reader, rows = FeatureReader(folder), all_rows()
    if set(reader) != set(rows):
        raise SystemExit(f"killed at {list(killed)}: rows {sorted(set(reader) ^ set(rows))[:3]}")
    for row_id, row in rows.items():
        reader.check(row_id)
        for name, value in (row.values or {}).items():
            if reader.value(row_id, name).tobytes() != value.tobytes():
                raise SystemExit(f"killed at {list(killed)}: row {row_id}, {name}")
    if faults := verify(folder).faults:
        raise SystemExit(f"killed at {list(killed)}: {faults}")
    if list((folder / ".tmp").iterdir()):
        raise SystemExit(f"killed at {list(killed)}: something was left behind in {folder}")


def gaps(directory: Path, most: int) -> Counter[str]:
    steps = undisturbed_steps(directory / "undisturbed")
    expected = files_of(directory / "undisturbed")
    places: dict[tuple[str, bool], list[int]] = {}
    for place, step in enumerate(steps):
        places.setdefault(step, []).append(place)
    kills: Counter[str] = Counter()
    for (_, is_tearable), where in places.items():
        for last in where if most >= len(where) else [*where[: most - 1], where[-1]]:
            for is_torn in (False, True) if is_tearable else (False,):
                store = directory / f"{last}-{is_torn}"
                finish(store, expected, [victim(store, last=last, is_torn=is_torn)], kills)
    if "" in kills:
        raise SystemExit(f"{kills['']} victims did not come to the step at which they were to be killed")
    return kills


def moments(directory: Path, count: int) -> Counter[str]:
    started = time.monotonic()
    for run in range(3):
        victim(directory / f"undisturbed {run}", is_hasty=False)
    whole_s = (time.monotonic() - started) / 3
    expected = files_of(directory / "undisturbed 0")
    rng = random.Random(0)
    kills: Counter[str] = Counter()
    run = 0
    while kills.total() < count:
        store = directory / str(run)
        run += 1
        steps = []
        for _ in range(rng.randint(1, 3)):
            if kills.total() + len(steps) < count and (
                step := victim(store, delay_s=rng.uniform(0, whole_s), is_hasty=False)
            ):
                steps.append(step)
        finish(store, expected, steps, kills)
    return kills


def finish(store: Path, expected: dict[str, bytes], steps: list[str], kills: Counter[str]) -> None:
    in_child(lambda: check_readable(store))
    if victim(store):
        raise SystemExit("the last one was killed by somebody else")
    in_child(lambda: check_whole(store, expected, steps))
    kills.update(steps)
    shutil.rmtree(store)


def main(words: list[str]) -> None:
    gc.freeze()  # pages stay shared with the children
    directory = Path(words[1])
    kills = {"gaps": gaps, "moments": moments}[words[0]](directory, int(words[2]))
    sys.stdout.write(json.dumps({"kills": kills.total(), "by_step": dict(kills.most_common())}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
