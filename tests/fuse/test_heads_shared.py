"""Laws of every head in the table. A new head is checked by all of them as soon as it stands there."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from sentifuse import CacheError, ConfigError
from sentifuse.fuse.config import TrainConfig, resolve
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.features.samples import open_features
from sentifuse.fuse.heads import HEADS, list_heads, load_head
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.loop import build_optimiser
from sentifuse.fuse.precision import rounded_products
from sentifuse.fuse.train import TrainRequest, train

WIDTHS = (6, 5, 9, 4, 7)
SMALL = 8  # of every width inside a head
# A constant added to all scores of a softmax, or before a batch normalisation, changes nothing: these biases have no
# gradient by their equations.
SILENT = {
    "itin": ("pool.2.bias",),
    "concat_mlp": ("text.bias", "image.bias"),
    "clmlf_like": ("pool.2.bias", "attention.key.bias", "second_view.2.bias"),
    "cross_attention": ("attention.key.bias",),
}
MakeBatch = Callable[..., Batch]


@pytest.fixture(scope="module")
def bare_worlds(tmp_path_factory: pytest.TempPathFactory, write_world: Callable[..., Any]) -> dict[str, Any]:
    """By the name of an encoder: a dataset with all features but that encoder's."""
    encoders = ("tokens", "context", "regions")
    return {
        encoder: write_world(
            artifacts=tmp_path_factory.mktemp(encoder), n=41, encoders=tuple(e for e in encoders if e != encoder)
        )
        for encoder in encoders
    }


@pytest.fixture(params=HEADS)
def head_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def widths_of(head_name: str) -> dict[str, int]:
    return {request.key: width for request, width in zip(load_head(head_name).needs, WIDTHS, strict=False)}


def small_config(head_name: str, *, is_free: bool) -> Any:
    """The default settings at a size that costs nothing, since no law depends on it; `is_free`: without any dropout."""
    head_class = load_head(head_name)
    given = resolve(head_name, head_class.Config, head_class.PRESETS).head
    changes: dict[str, float] = {}
    for name in head_class.Config.__dataclass_fields__:
        if (name == "hidden" or name.endswith("width")) and getattr(given, name) is not None:
            changes[name] = SMALL
        if name.endswith("layers"):
            changes[name] = 1
        if is_free and (name.endswith("dropout") or name in ("left_out_words", "label_smoothing")):
            changes[name] = 0.0
    return resolve(head_name, head_class.Config, head_class.PRESETS, overrides=changes).head


def build(head_name: str, make_batch: MakeBatch, *, class_count: int = 3, seed: int = 5, is_free: bool = False) -> Head:
    """A head in float64 that has seen its training part and has no weight at zero, in evaluation mode."""
    head_class = load_head(head_name)
    config = small_config(head_name, is_free=is_free)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = head_class(config, widths_of(head_name), class_count).double()
        head.prepare([make_batch(widths_of(head_name), seed=1)])
        learned = list(head.buffers()) if head.has_closed_fit else list(head.parameters())
        with torch.no_grad():
            for value in learned:
                value.add_(torch.rand_like(value) * 0.1)
    return head.eval()


def logits(head: Head, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return head(batch).logits


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some pairs of a batch, with the padding they have there."""
    index = torch.tensor(rows)
    return replace(
        batch,
        ids=tuple(batch.ids[i] for i in rows),
        values={key: value[index] for key, value in batch.values.items()},
        masks={key: mask[index] for key, mask in batch.masks.items()},
        labels=None if batch.labels is None else batch.labels[index],
    )


def with_masked_numbers(batch: Batch, number: float) -> Batch:
    """The same batch with other numbers wherever nothing is real."""
    values = {key: value.masked_fill(~batch.masks[key].unsqueeze(-1), number) for key, value in batch.values.items()}
    return replace(batch, values=values)


def padded(batch: Batch, extra: int) -> Batch:
    """The same batch with every sequence longer by pads that hold numbers."""
    values, masks = dict(batch.values), dict(batch.masks)
    for key, mask in batch.masks.items():
        if mask.dim() == 2:
            b, _, width = batch.values[key].shape
            values[key] = torch.cat([batch.values[key], torch.full((b, extra, width), 3.0).to(batch.values[key])], 1)
            masks[key] = torch.cat([mask, torch.zeros(b, extra, dtype=torch.bool)], 1)
    return replace(batch, values=values, masks=masks)


class TestEveryHead:
    def test_logits_have_one_column_per_class(self, head_name: str, make_batch: MakeBatch) -> None:
        for class_count in (2, 3, 7):
            head = build(head_name, make_batch, class_count=class_count)
            result = logits(head, make_batch(widths_of(head_name)))
            assert result.shape == (4, class_count)
            assert result.isfinite().all()

    def test_padding_does_not_change_logits(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        torch.testing.assert_close(logits(head, padded(batch, 4)), logits(head, batch), atol=1e-12, rtol=0)

    def test_batch_mates_do_not_change_logits(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        together = logits(head, batch)
        for row in range(4):
            torch.testing.assert_close(logits(head, take(batch, [row])), together[[row]], atol=1e-12, rtol=0)

    def test_order_of_pairs_only_permutes_logits(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        order = [2, 0, 3, 1]
        torch.testing.assert_close(logits(head, take(batch, order)), logits(head, batch)[order], atol=1e-12, rtol=0)

    @pytest.mark.parametrize("number", [7.5, float("nan"), float("inf")])
    def test_numbers_of_what_is_missing_change_no_logit(
        self, head_name: str, make_batch: MakeBatch, number: float
    ) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        changed = with_masked_numbers(batch, number)
        torch.testing.assert_close(logits(head, changed), logits(head, batch), atol=0, rtol=0)

    def test_a_pair_without_anything_gets_finite_logits_and_gradients(
        self, head_name: str, make_batch: MakeBatch
    ) -> None:
        head = build(head_name, make_batch)
        nothing = {"lengths": (0, 0), "regions": (0, 0), "has_context": (False, False)}
        batch = make_batch(widths_of(head_name), **nothing)
        assert logits(head, batch).isfinite().all()
        if not head.has_closed_fit:
            head.loss(head(batch), batch).backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())

    @pytest.mark.parametrize(
        "what",
        [
            {"regions": (0, 0), "has_context": (False, False)},
            {"regions": (0, 0)},
            {"lengths": (1, 1)},
            {"lengths": (0, 0)},
            {"lengths": (1,), "regions": (1,), "has_context": (True,)},
        ],
        ids=["no image", "no region", "one token", "no text", "one pair"],
    )
    def test_what_is_missing_or_single_gives_finite_logits(
        self, head_name: str, make_batch: MakeBatch, what: dict[str, Any]
    ) -> None:
        usual = {"lengths": (3, 2), "regions": (2, 1), "has_context": (True, True)}
        assert (
            logits(build(head_name, make_batch), make_batch(widths_of(head_name), **{**usual, **what})).isfinite().all()
        )

    @pytest.mark.parametrize("encoders", [("tokens",), ("regions", "context"), ("regions",), ("context",)])
    def test_a_modality_that_is_masked_for_all_contributes_nothing(
        self, head_name: str, make_batch: MakeBatch, encoders: tuple[str, ...]
    ) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        gone = [key for key in batch.masks if key.partition(".")[0] in encoders]
        masked = replace(batch, masks={**batch.masks, **{key: torch.zeros_like(batch.masks[key]) for key in gone}})
        other = replace(masked, values={**masked.values, **{key: -3.0 * masked.values[key] for key in gone}})
        assert logits(head, masked).isfinite().all()
        assert torch.equal(logits(head, other), logits(head, masked))

    def test_pads_and_mates_change_nothing_in_single_precision(self, head_name: str, make_batch: MakeBatch) -> None:
        # The kernels that compute float32 are others than those of float64.
        head = build(head_name, make_batch).float()
        batch = make_batch(widths_of(head_name), dtype=torch.float32)
        together = logits(head, batch)
        scale = max(1.0, float(together.abs().max()))
        torch.testing.assert_close(logits(head, padded(batch, 9)), together, atol=1e-6 * scale, rtol=0)
        for row in range(4):
            torch.testing.assert_close(logits(head, take(batch, [row])), together[[row]], atol=1e-6 * scale, rtol=0)

    def test_every_field_it_needs_matters(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        for key in widths_of(head_name):
            other = replace(batch, values={**batch.values, key: batch.values[key] + 1.0})
            assert not torch.allclose(logits(head, other), logits(head, batch))

    def test_gradient_reaches_every_parameter(self, head_name: str, make_batch: MakeBatch) -> None:
        head = build(head_name, make_batch).train()
        if head.has_closed_fit:
            assert not list(head.parameters())
            return
        batch = make_batch(widths_of(head_name), lengths=(5, 4, 3, 2), regions=(2, 3, 2, 3), has_context=(True,) * 4)
        head.loss(head(batch), batch).backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            is_silent = name.endswith(SILENT.get(head_name, ()))
            assert (parameter.grad.abs().sum() < 1e-12) == is_silent, name

    def test_20_pairs_are_learnt(self, head_name: str, make_batch: MakeBatch) -> None:
        if load_head(head_name).has_closed_fit:
            return  # the tests of these heads check what their solver reaches
        n = 20
        batch = make_batch(
            widths_of(head_name),
            lengths=tuple(1 + i % 6 for i in range(n)),
            regions=tuple(1 + i % 3 for i in range(n)),
            has_context=(True,) * n,
        )
        for value in batch.values.values():  # a linear head can learn what is planted only
            planted = 3.0 * torch.nn.functional.one_hot(batch.labels, value.shape[-1])
            value += planted if value.dim() == 2 else planted[:, None]
        head = build(head_name, make_batch, is_free=True)
        before = head.loss(head(batch), batch).item()
        head.train()
        optimiser = build_optimiser(head, TrainConfig(learning_rate=1e-2))
        for _ in range(40):
            head.training_step(batch, optimiser)
        head.eval()
        assert head.loss(head(batch), batch).item() < 0.7 * before
        assert (logits(head, batch).argmax(1) == batch.labels).double().mean() >= 0.8

    def test_a_batch_of_one_pair_is_a_step_like_any_other(self, head_name: str, make_batch: MakeBatch) -> None:
        if load_head(head_name).has_closed_fit:
            return
        head = build(head_name, make_batch).train()
        batch = make_batch(widths_of(head_name), lengths=(3,), regions=(2,), has_context=(True,))
        optimiser = build_optimiser(head, TrainConfig())
        for _ in range(2):
            assert math.isfinite(head.training_step(batch, optimiser))
        assert all(parameter.isfinite().all() for parameter in head.parameters())
        assert logits(head.eval(), batch).isfinite().all()

    def test_a_step_with_rounded_products_is_nearly_the_same_and_leaves_float32(
        self, head_name: str, make_batch: MakeBatch
    ) -> None:
        if load_head(head_name).has_closed_fit:
            return  # refused, see test_train.py
        lengths, regions = (5, 4, 3, 2), (2, 3, 2, 3)
        batch = make_batch(
            widths_of(head_name), lengths=lengths, regions=regions, has_context=(True,) * 4, dtype=torch.float32
        )
        losses = {}
        for precision in ("float32", "bfloat16"):
            head = build(head_name, make_batch, is_free=True).float().train()
            before = torch.cat([parameter.detach().flatten() for parameter in head.parameters()])
            optimiser = build_optimiser(head, TrainConfig())
            with rounded_products(precision, torch.device("cpu")):
                losses[precision] = head.training_step(batch, optimiser)
            after = torch.cat([parameter.detach().flatten() for parameter in head.parameters()])
            assert after.isfinite().all()
            assert not torch.equal(after, before)
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
        assert losses["bfloat16"] != losses["float32"]
        tensors = [*head.parameters(), *(value for state in optimiser.state.values() for value in state.values())]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}

    def test_the_seed_decides_everything(self, head_name: str, make_batch: MakeBatch) -> None:
        if load_head(head_name).has_closed_fit:
            return

        def trained(seed: int) -> torch.Tensor:
            head = build(head_name, make_batch, seed=seed).train()
            optimiser = build_optimiser(head, TrainConfig())
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for _ in range(2):
                    head.training_step(make_batch(widths_of(head_name), has_context=(True,) * 4), optimiser)
            return torch.cat([parameter.detach().flatten() for parameter in head.parameters()])

        assert torch.equal(trained(1), trained(1))
        assert not torch.equal(trained(1), trained(2))

    def test_features_of_another_width_are_refused(self, head_name: str, make_batch: MakeBatch) -> None:
        head, widths = build(head_name, make_batch), widths_of(head_name)
        for key, width in widths.items():
            with pytest.raises(ValueError, match=rf"{re.escape(key)}: expected width {width}, found {width + 3}"):
                head(make_batch({**widths, key: width + 3}))

    def test_weights_carry_everything_learned(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        twin = type(head)(head.config, head.widths, head.class_count).double().eval()
        twin.load_state_dict(head.state_dict())
        torch.testing.assert_close(logits(twin, batch), logits(head, batch), atol=0, rtol=0)

    def test_evaluation_draws_no_random_number(self, head_name: str, make_batch: MakeBatch) -> None:
        head, batch = build(head_name, make_batch), make_batch(widths_of(head_name))
        state = torch.get_rng_state()
        first = logits(head, batch)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(logits(head, batch), first)

    def test_details_are_rows_of_the_batch(self, head_name: str, make_batch: MakeBatch) -> None:
        with torch.no_grad():
            output = build(head_name, make_batch)(make_batch(widths_of(head_name)))
        assert all(len(value) == 4 for value in output.details.values())

    def test_keys_of_head_and_training_do_not_meet(self, head_name: str) -> None:
        own = set(load_head(head_name).Config.__dataclass_fields__)
        assert not own & set(TrainConfig.__dataclass_fields__)

    def test_every_preset_resolves(self, head_name: str) -> None:
        head = load_head(head_name)
        assert "default" in head.PRESETS
        for preset in head.PRESETS:
            name, _, dataset = preset.partition("@")
            resolved = resolve(head_name, head.Config, head.PRESETS, preset=name, dataset=dataset)
            origins = resolved.to_json()["origins"]
            assert all(origins[key] == f"preset {preset}" for key in head.PRESETS[preset])

    def test_every_preset_builds_a_head(self, head_name: str) -> None:
        head = load_head(head_name)
        for preset in head.PRESETS:
            name, _, dataset = preset.partition("@")
            config = resolve(head_name, head.Config, head.PRESETS, preset=name, dataset=dataset).head
            widths = {request.key: 384 for request in head.requests(config)}
            with torch.device("meta"):  # shapes alone: the authors' sizes are of hundreds of MiB
                assert next(iter(head(config, widths, 3).state_dict().values())).is_meta

    def test_an_unknown_setting_names_the_nearest(self, head_name: str) -> None:
        head = load_head(head_name)
        for key in head.Config.__dataclass_fields__:
            with pytest.raises(ConfigError, match=rf"did you mean '{key}'"):
                resolve(head_name, head.Config, head.PRESETS, overrides={f"{key}x": "1"})

    def test_a_missing_field_names_the_encoder_to_run(self, head_name: str, bare_worlds: dict[str, Any]) -> None:
        head = load_head(head_name)
        requests = head.requests(resolve(head_name, head.Config, head.PRESETS).head)
        for encoder in {request.encoder for request in requests} & set(bare_worlds):
            world = bare_worlds[encoder]
            with pytest.raises(
                CacheError, match=rf"Run: sentifuse extract --dataset {world.name} --encoders {encoder}"
            ):
                open_features(world.artifacts, world.name, requests)

    def test_it_trains_on_the_cache_and_is_evaluated(self, head_name: str, world: Any) -> None:
        closed = load_head(head_name).has_closed_fit
        overrides = {} if closed else {"epochs": "1", "batch_size": "32"}
        run = train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head_name, overrides=overrides))
        assert run.document["epochs_run"] >= 1
        assert 0.0 <= evaluate(run)["accuracy"] <= 1.0

    def test_requests_name_the_needed_fields(self, head_name: str) -> None:
        head = load_head(head_name)
        requests = head.requests(resolve(head_name, head.Config, head.PRESETS).head)
        assert {request.key for request in requests} <= {request.key for request in head.needs}


def test_list_describes_every_head() -> None:
    found = list_heads()
    assert [head.name for head in found] == list(HEADS)
    assert all(head.description and head.needs and "default" in head.presets for head in found)
    assert not any("@" in preset for head in found for preset in head.presets)
