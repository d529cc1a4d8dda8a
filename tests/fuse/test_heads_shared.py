"""Laws of every head in the table. A new head is checked by all of them as soon as it stands there."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from sentifuse.fuse.batches import Batch
from sentifuse.fuse.config import TrainConfig, resolve
from sentifuse.fuse.heads import HEADS, list_heads, load_head
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.loop import build_optimiser

WIDTHS = (6, 5, 9, 4, 7)
MakeBatch = Callable[..., Batch]


@pytest.fixture(params=HEADS)
def head_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def widths_of(head_name: str) -> dict[str, int]:
    return {request.key: width for request, width in zip(load_head(head_name).needs, WIDTHS, strict=False)}


def build(head_name: str, make_batch: MakeBatch, *, class_count: int = 3, preset: str = "default") -> Head:
    """A head in float64 that has seen its training part and has no weight at zero, in evaluation mode."""
    head_class = load_head(head_name)
    config = resolve(head_name, head_class.Config, head_class.PRESETS, preset=preset).head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
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
        # A constant added to all scores of a softmax changes nothing: this bias has no gradient by its equation.
        silent = {"pool.2.bias"} if head_name == "itin" else set()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert name in silent or parameter.grad.abs().sum() > 0, name

    def test_loss_falls_on_32_pairs(self, head_name: str, make_batch: MakeBatch) -> None:
        if load_head(head_name).has_closed_fit:
            return  # test_logreg.py checks what its solver reaches
        n = 32
        batch = make_batch(
            widths_of(head_name),
            lengths=tuple(1 + i % 6 for i in range(n)),
            regions=tuple(1 + i % 3 for i in range(n)),
            has_context=(True,) * n,
        )
        head = build(head_name, make_batch)
        before = head.loss(head(batch), batch).item()
        head.train()
        optimiser = build_optimiser(head, TrainConfig(learning_rate=1e-2))
        for _ in range(40):
            head.training_step(batch, optimiser)
        head.eval()
        assert head.loss(head(batch), batch).item() < 0.6 * before

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

    def test_requests_name_the_needed_fields(self, head_name: str) -> None:
        head = load_head(head_name)
        requests = head.requests(resolve(head_name, head.Config, head.PRESETS).head)
        assert {request.key for request in requests} <= {request.key for request in head.needs}


def test_list_describes_every_head() -> None:
    found = list_heads()
    assert [head.name for head in found] == list(HEADS)
    assert all(head.description and head.needs and "default" in head.presets for head in found)
    assert not any("@" in preset for head in found for preset in head.presets)
