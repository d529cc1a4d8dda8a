"""How features are read never changes what is learned, and damaged features are refused before anything is."""

from collections.abc import Callable
from typing import Any

import pytest

from sentifuse import CacheError, ConfigError, ResourceError
from sentifuse.cache.reader import FeatureReader
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.features import delivery, samples
from sentifuse.fuse.features.batches import BatchSource, FieldRequest
from sentifuse.fuse.features.samples import open_features, prove_features
from sentifuse.fuse.train import TrainRequest, train

MakeWorld = Callable[..., Any]
QUICK = {"epochs": "2", "batch_size": "16"}
STATES = FieldRequest(encoder="tokens", field="states")


def request(world: Any, head: str = "image_only", **settings: Any) -> TrainRequest:
    return TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, overrides=QUICK, **settings)


def damage(world: Any, encoder: str, id_: str, field: str) -> None:
    """Flip one bit of a stored value."""
    reader = open_features(world.artifacts, world.name, (FieldRequest(encoder=encoder, field=field),))[encoder]
    path = reader.feature_set.directory / reader.shards[int(reader.locate([id_])[0][0])].file
    content = bytearray(path.read_bytes())
    content[content.index(reader.value(id_, field).tobytes())] ^= 1
    path.write_bytes(content)


def test_every_reader_and_place_trains_the_same_weights(world: Any) -> None:
    ways: list[dict[str, str]] = [{}, {"reader": "h5py"}, {"resident": "ram"}, {"resident": "device"}]
    runs = [train(request(world, device="cpu", **way)) for way in ways]
    assert len({(run.path / "model.safetensors").read_bytes() for run in runs}) == 1
    results = [evaluate(runs[0].path, reader=reader) for reader in ("mmap", "h5py")]
    assert results[0]["confusion"] == results[1]["confusion"]


def test_damage_is_refused_by_name_before_any_training(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    run = train(request(world, "text_only"))
    names = sorted((world.artifacts / "runs").iterdir())
    for id_ in ("p3", "p50"):
        damage(world, "tokens", id_, "states")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr("sentifuse.fuse.train.fit_head", never)
    with pytest.raises(CacheError, match=r"row 'p(3|50)' has CRC32C"):
        train(request(world, "text_only"))
    with pytest.raises(CacheError, match=r"row 'p(3|50)' has CRC32C"):
        evaluate(run.path, split="train")
    assert sorted((world.artifacts / "runs").iterdir()) == names


def test_a_store_larger_than_memory_is_read_ahead_instead(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    plain = train(request(world))
    asked: list[int] = []
    will_need = FeatureReader.will_need

    def watch(self: FeatureReader, ids: Any, limits: Any = None) -> None:
        asked.append(len(ids))
        will_need(self, ids, limits)

    def never(*_: object) -> None:
        raise AssertionError("proving would push the rows out again")

    monkeypatch.setattr(samples, "free_memory_bytes", lambda: 1000)
    monkeypatch.setattr(FeatureReader, "will_need", watch)
    monkeypatch.setattr(FeatureReader, "prove", never)
    ahead = train(request(world))
    assert asked
    assert (ahead.path / "model.safetensors").read_bytes() == (plain.path / "model.safetensors").read_bytes()


def test_every_row_of_a_stream_is_asked_for_once_per_field(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = open_features(world.artifacts, world.name, (STATES,))
    asked: list[str] = []
    monkeypatch.setattr(FeatureReader, "will_need", lambda self, ids, limits=None: asked.extend(ids))
    source = BatchSource(readers, (STATES,), readers["tokens"].ids, read_ahead=True)
    assert sum(len(batch) for _, batch in source.batches(16)) == len(source)
    assert sorted(asked) == sorted(source.ids)


def test_unknown_memory_is_taken_as_enough(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = open_features(world.artifacts, world.name, (STATES,))
    monkeypatch.setattr(samples, "free_memory_bytes", lambda: None)
    assert prove_features(readers, readers["tokens"].ids)


def test_what_cannot_be_is_refused_in_words(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--reader: unknown reader 'nmap'"):
        train(request(world, reader="nmap"))
    with pytest.raises(ConfigError, match="--resident: unknown place 'disk'"):
        train(request(world, resident="disk"))
    monkeypatch.setattr(delivery, "free_memory_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match=r"resident features: 0\.0 GB are needed on cpu.*--resident"):
        train(request(world, resident="ram"))
