"""Laws of hostile JSON: whatever recipe, journal and index say, it is a fault of that file and never a surprise."""

import json
import random
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from sentifuse.cache.checksum import seal
from sentifuse.cache.checkup.mend import repair
from sentifuse.cache.checkup.verify import verify
from sentifuse.cache.errors import BadRow, CacheError
from sentifuse.cache.fingerprint import canonical_json
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.writer import FeatureWriter

ROUNDS = 6
HOSTILE = [
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"a":NaN,"crc32c":"00000000"}',
    b'{"a":1e999,"crc32c":"00000000"}',
    b'{"a":"\\ud800","crc32c":"00000000"}',
]
HOSTILE_NAMES = ["brackets", "braces", "NaN", "infinite", "surrogate"]


@pytest.mark.parametrize("content", HOSTILE, ids=HOSTILE_NAMES)
@pytest.mark.parametrize("name", ["recipe.json", "journal.jsonl", "index.json"])
def test_json_that_cannot_be_sealed_is_a_fault_of_its_file(store: Any, name: str, content: bytes) -> None:
    store.put(name, content + b"\n" + (store.whole[name] if name == "journal.jsonl" else b""))
    assert {fault.file for fault in verify(store.directory, expected=store.expected).faults} == {name}
    with pytest.raises(CacheError, match=name.replace(".", r"\.")):
        FeatureReader(store.directory) if name != "journal.jsonl" else FeatureWriter(store.feature_set)
    assert repair(store.directory, details=store.feature_set.details).after.faults == ()
    assert store.files() == store.whole


def random_json(rng: random.Random, depth: int = 0) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice([0, 1, -1, 2**31, 2**63, 10**30, -(10**30), 4096]),
        lambda: rng.choice([0.5, -0.0, 1e300]),
        lambda: rng.choice(["", "ids", "fields/grid", "../x", "a" * 64, "\0", "é", "AAAA", "ok", "tokens"]),
    ]
    if depth < 3:
        kinds.append(lambda: [random_json(rng, depth + 1) for _ in range(rng.randrange(4))])
        kinds.append(lambda: {str(random_json(rng, 3)): random_json(rng, depth + 1) for _ in range(rng.randrange(3))})
    return rng.choice(kinds)()


def put_in_random_place(value: Any, rng: random.Random) -> None:
    """Replace, add or take out one thing somewhere in a parsed JSON object."""
    while True:
        keys = list(range(len(value))) if isinstance(value, list) else sorted(value)
        key = rng.choice(keys) if keys else None
        if key is not None and isinstance(value[key], list | dict) and rng.random() < 0.7:
            value = value[key]
            continue
        if key is not None and rng.random() < 0.8:
            value[key] = random_json(rng)
        elif key is not None and rng.random() < 0.5:
            del value[key]
        elif isinstance(value, list):
            value.append(random_json(rng))
        else:
            value["more"] = random_json(rng)
        return


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@pytest.mark.parametrize("name", ["recipe.json", "journal.jsonl", "index.json"])
def test_random_json_under_a_right_seal_is_a_fault_or_harmless_and_never_an_error(
    store: Any, name: str, seed: int
) -> None:
    """What a seal bears out is checked nevertheless: a program may have written it."""
    rng = random.Random(f"{name} {seed}")
    for _ in range(ROUNDS):
        shutil.rmtree(store.directory / "shards")
        (store.directory / "shards").mkdir()
        for file_name, whole in store.whole.items():
            store.put(file_name, whole)
        texts = store.whole[name].splitlines() if name != "recipe.json" else [store.whole[name]]
        value = json.loads(texts[0])
        del value["crc32c"]
        put_in_random_place(value, rng)
        sealed = seal(value)
        if name == "recipe.json":
            content = json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        else:
            content = b"\n".join([canonical_json(sealed), *texts[1:], b""])
        store.put(name, content)
        for file_name in rng.sample(sorted(store.shards), rng.randrange(2)):
            store.put(file_name, spoilt(store.whole[file_name], rng))
        verify(store.directory, expected=store.expected)
        verify(store.directory, deep=False)
        try:
            result = repair(store.directory, expected=store.expected, recompute=store.recompute)
        except BadRow:
            continue  # a recipe of other fields, which no encoder has: `extract` refuses it before it makes rows
        except CacheError as error:
            assert str(store.directory) in str(error)  # noqa: PT017 - what it says is the law
        else:
            assert {fault.remedy for fault in result.after.faults} <= {"extract"}


def spoilt(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
