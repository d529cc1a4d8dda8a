"""CTMWA as a head: its meta set, its weights, its way with missing modalities, and what a run remembers of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from sentifuse import ConfigError, TrainingError
from sentifuse.fuse import train as train_module
from sentifuse.fuse.config import resolve
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.features.batches import Batch, BatchSource
from sentifuse.fuse.features.samples import digest_ids
from sentifuse.fuse.heads.ctmwa import IMAGE, WORDS, Ctmwa, CtmwaConfig
from sentifuse.fuse.heads.ctmwa_network import BACKBONE, WEIGHT_NETS, run_encoded, run_network, translate
from sentifuse.fuse.heads.ctmwa_step import layers_of, parameters_of
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

WIDTHS = {WORDS: 6, IMAGE: 5}
CLASSES = ("negative", "neutral", "positive")
SMALL = {"embedding_width": 8, "weight_net_width": 8, "epochs": 2, "batch_size": 16, "meta_batch": 4}
MakeBatch = Callable[..., Batch]
MakeWorld = Callable[..., Any]


def new_head(**settings: Any) -> Ctmwa:
    torch.manual_seed(2)
    config = CtmwaConfig(**{"embedding_width": 4, "weight_net_width": 6, **settings})
    return Ctmwa(config, WIDTHS, 3).double().eval()


def labelled_world(make_world: MakeWorld, **settings: Any) -> Any:
    """Every pair but each fifth has labels of text and image alone."""
    ids = [f"p{i}" for i in range(90) if i % 5]
    text = {id_: CLASSES[int(id_[1:]) % 3] for id_ in ids}
    image = {id_: CLASSES[(int(id_[1:]) + 1) % 3] for id_ in ids}
    return make_world(**{"text_labels": text, "image_labels": image, **settings})


def train_small(world: Any, **options: Any) -> RunDirectory:
    overrides = {**SMALL, **options.pop("overrides", {})}
    request = TrainRequest(artifacts=world.artifacts, dataset=world.name, head="ctmwa", overrides=overrides)
    return train(request, **options)


class TestTraining:
    def test_the_meta_set_is_held_out_and_recorded(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained: set[str] = set()
        step = Ctmwa.training_step

        def watched(self: Ctmwa, batch: Batch, *arguments: Any, **options: Any) -> float:
            trained.update(batch.ids)
            return step(self, batch, *arguments, **options)

        monkeypatch.setattr(Ctmwa, "training_step", watched)
        world = labelled_world(make_world)
        said: list[Mapping[str, Any]] = []
        run = train_small(world, announce=said.append, overrides={"meta_share": 0.2})
        document = run.document
        held_out = document["held_out"]
        split = document["split"]["train"]["n"]
        assert said == [{"meta": "on", "meta_pairs": held_out["n"]}] == [document["notes"]]
        assert len(trained) + held_out["n"] == split == 72
        assert held_out["classes"] == {"negative": 5, "neutral": 5, "positive": 5}
        kept = sorted(set(train_module.read_split(world.dataset_dir, parts=("train",))["train"]) - trained)
        assert digest_ids(kept) == held_out["digest"]
        assert all(int(id_[1:]) % 5 for id_ in kept)
        json.dumps(document)  # plain values only

    def test_history_tells_the_weights_and_the_meta_loss(self, make_world: MakeWorld) -> None:
        run = train_small(labelled_world(make_world))
        header = (run.path / "history.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        expected = {"meta_loss", "text_weight", "image_weight", "left_out", "val_text_weight", "val_image_weight"}
        assert expected <= set(header)

    def test_same_seed_same_weights(self, make_world: MakeWorld) -> None:
        world = labelled_world(make_world)
        first, second = (train_small(world).path / "model.safetensors" for _ in range(2))
        assert first.read_bytes() == second.read_bytes()

    def test_without_labels_of_its_modalities_weights_are_one_and_the_run_says_so(self, make_world: MakeWorld) -> None:
        said: list[Mapping[str, Any]] = []
        run = train_small(make_world(), announce=said.append)
        assert run.document["notes"]["meta"] == "off"
        assert "no training pair has labels of text and image alone" in run.document["notes"]["meta_reason"]
        assert said == [run.document["notes"]]
        assert "held_out" not in run.document
        head = run.load_head()
        assert not head.is_weighted
        batch = Batch(
            ids=("a",),
            values={WORDS: torch.randn(1, 2, 12), IMAGE: torch.randn(1, 7)},
            masks={WORDS: torch.ones(1, 2, dtype=torch.bool), IMAGE: torch.ones(1, dtype=torch.bool)},
        )
        assert head(batch).details["text_weight"].tolist() == [1.0]
        assert evaluate(run)["n"] == 9

    def test_it_can_be_switched_off_and_demanded(self, make_world: MakeWorld) -> None:
        run = train_small(labelled_world(make_world), overrides={"meta": "off"})
        assert "switched off" in run.document["notes"]["meta_reason"]
        with pytest.raises(TrainingError, match=r"meta=on.*labels of their own, found none.*--set meta=off"):
            train_small(make_world(name="others"), overrides={"meta": "on"})

    def test_a_pair_without_words_is_left_out_and_counted(self, make_world: MakeWorld) -> None:
        world = labelled_world(make_world)
        run = train_small(world, overrides={"epochs": 1})
        rows = (run.path / "history.csv").read_text(encoding="utf-8").splitlines()
        left_out = float(dict(zip(rows[0].split(","), rows[1].split(","), strict=True))["left_out"])
        assert left_out > 0  # some texts of this world have no words at all

    def test_a_meta_set_without_whole_pairs_is_refused(self, make_batch: MakeBatch) -> None:
        head = new_head()

        class Empty:
            def __len__(self) -> int:
                return 2

            def stream(self, plan: Any) -> Any:
                yield make_batch(WIDTHS, lengths=(0, 0), has_context=(True, False))

        with pytest.raises(TrainingError, match="none of the 2 pairs of the meta set has both"):
            head.start_epoch(1, Empty())  # type: ignore[arg-type]

    def test_a_batch_without_whole_pairs_changes_nothing(self, make_batch: MakeBatch) -> None:
        head = new_head().train()
        before = [p.detach().clone() for p in head.parameters()]
        optimiser = torch.optim.SGD(head.recipe_parameters(), lr=1.0)
        batch = make_batch(WIDTHS, lengths=(0, 3), has_context=(True, False))
        assert head.training_step(batch, optimiser) == 0.0
        assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))

    def test_a_meta_loss_that_is_not_finite_names_the_pairs_of_both_batches(self, make_world: MakeWorld) -> None:
        with pytest.raises(
            TrainingError, match=r"meta loss .* is (nan|inf).*batch: p\d+, .*meta batch: p\d+.*inner_learning_rate"
        ):
            train_small(labelled_world(make_world), overrides={"inner_learning_rate": 1e38})

    def test_a_meta_set_of_no_pairs_is_not_asked_for_by_its_share(self) -> None:
        with pytest.raises(ConfigError, match=r"meta_share: expected between .* found 0\.0.*for none: meta=off"):
            CtmwaConfig(meta_share=0.0)

    def test_the_recipe_steps_the_backbone_and_the_meta_step_the_weight_nets(self, make_world: MakeWorld) -> None:
        head = new_head()
        own = {id(p) for p in head.recipe_parameters()}
        assert own == {id(p) for p in parameters_of(head.network, BACKBONE).values()}
        trained = train_small(labelled_world(make_world)).load_head()
        torch.manual_seed(0)
        fresh = type(trained)(trained.config, trained.widths, 3)
        for part in (*BACKBONE, *WEIGHT_NETS):
            pairs = zip(
                trained.network.get_submodule(part).parameters(),
                fresh.network.get_submodule(part).parameters(),
                strict=True,
            )
            assert any(not torch.equal(a, b) for a, b in pairs), part


class TestWeights:
    def test_of_the_label_where_there_is_one_else_the_expectation(self, make_batch: MakeBatch) -> None:
        head = new_head()
        batch = make_batch(WIDTHS, has_context=(True,) * 4, lengths=(3, 1, 2, 4))
        by_label = [head(replace(batch, labels=torch.full((4,), y))).details for y in range(3)]
        unknown = head(replace(batch, labels=None))
        assert not unknown.details["weight_is_of_label"].any()
        p = unknown.logits.softmax(-1)
        mixed = head(replace(batch, labels=torch.tensor([2, -1, 0, -1]))).details
        assert mixed["weight_is_of_label"].tolist() == [True, False, True, False]
        for name in ("text_weight", "image_weight"):
            for row in range(4):
                expected = sum(p[row, y] * by_label[y][name][row] for y in range(3))
                assert unknown.details[name][row].item() == pytest.approx(expected.item(), abs=1e-12)
            assert mixed[name][0] == by_label[2][name][0]
            assert mixed[name][1].item() == pytest.approx(unknown.details[name][1].item(), abs=1e-12)
            assert torch.all((unknown.details[name] > 0) & (unknown.details[name] < 1))

    def test_labels_change_no_logit(self, make_batch: MakeBatch) -> None:
        head, batch = new_head(), make_batch(WIDTHS)
        assert torch.equal(head(batch).logits, head(replace(batch, labels=None)).logits)


class TestMissingModality:
    def signals(self, head: Ctmwa, batch: Batch, row: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
        layer = layers_of(parameters_of(head.network, BACKBONE))
        mask = batch.masks[WORDS][row]
        text = batch.values[WORDS][row][mask].mean(0, keepdim=True) if mask.any() else torch.zeros(1, 6).double()
        return layer, text, batch.values[IMAGE][[row]]

    def test_what_is_missing_is_translated_from_the_other(self, make_batch: MakeBatch) -> None:
        head = new_head()
        batch = make_batch(WIDTHS, lengths=(3, 0, 2), has_context=(True, True, False))
        logits = head(batch).logits
        layer, text, image = self.signals(head, batch, 0)
        torch.testing.assert_close(logits[[0]], run_network(layer, text, image, {}).joint_logits)
        layer, _, image = self.signals(head, batch, 1)  # no text: t := G(v)
        expected = run_encoded(layer, translate(layer, "image_to_text", image), image, {}).joint_logits
        torch.testing.assert_close(logits[[1]], expected)
        layer, text, _ = self.signals(head, batch, 2)  # no image: v := H(t)
        t = layer("text_encoder", text)
        expected = run_encoded(layer, t, translate(layer, "text_to_image", t), {}).joint_logits
        torch.testing.assert_close(logits[[2]], expected)

    def test_the_other_s_classifier_can_answer_instead(self, make_batch: MakeBatch) -> None:
        head, translating = new_head(missing="unimodal"), new_head()
        batch = make_batch(WIDTHS, lengths=(3, 0, 2, 0), has_context=(True, True, False, False))
        output, details = head(batch).logits, translating(batch).details
        assert torch.equal(output[0], translating(batch).logits[0])
        assert torch.equal(output[1], details["image_logits"][1])
        assert torch.equal(output[2], details["text_logits"][2])
        assert torch.equal(output[3], translating(batch).logits[3])  # neither is there: neither is left

    def test_details_say_what_was_there(self, make_batch: MakeBatch) -> None:
        details = new_head()(make_batch(WIDTHS, lengths=(3, 0, 2), has_context=(True, True, False))).details
        assert details["has_text"].tolist() == [True, False, True]
        assert details["has_image"].tolist() == [True, True, False]

    def test_a_missing_modality_takes_no_part_in_the_translation_loss(self, make_batch: MakeBatch) -> None:
        head = new_head()
        batch = make_batch(WIDTHS, lengths=(3, 0, 2), has_context=(True, True, False))
        output = head(batch)
        settings = dict.fromkeys(("text_cycle", "image_cycle", "text_from_image", "image_from_text"), 0.0)
        without = new_head(**settings).loss(output, batch)
        expected = sum(
            getattr(head.config, name) * output.details[name][0].item() for name in settings
        )  # pair 0 alone is whole
        assert (head.loss(output, batch) - without).item() == pytest.approx(expected, abs=1e-10)


class TestSettings:
    def test_the_first_word_can_stand_for_the_text(self, make_batch: MakeBatch) -> None:
        head = new_head(pooling="cls")
        batch = make_batch(WIDTHS, lengths=(3, 2, 1, 4), has_context=(True,) * 4)
        first = replace(
            batch,
            values={**batch.values, WORDS: batch.values[WORDS][:, :1]},
            masks={**batch.masks, WORDS: batch.masks[WORDS][:, :1]},
        )
        assert torch.equal(head(batch).logits, head(first).logits)
        assert not torch.equal(head(batch).logits, new_head()(batch).logits)

    def test_statistics_are_those_of_the_pairs_that_have_the_vector(self, make_batch: MakeBatch) -> None:
        head = new_head(standardise=True)
        batch = make_batch(WIDTHS, lengths=(3, 0, 2, 4), has_context=(True, True, False, True))
        head.prepare([batch])
        expected = batch.values[IMAGE][[0, 1, 3]].mean(0)
        torch.testing.assert_close(head.image_standard.mean, expected)
        assert torch.equal(new_head().image_standard.mean, torch.zeros(5).double())

    def test_the_authors_preset_is_their_script(self) -> None:
        found = resolve("ctmwa", CtmwaConfig, Ctmwa.PRESETS, preset="authors")
        head, recipe = found.head, found.train
        assert (recipe.optimiser, recipe.schedule, recipe.learning_rate) == ("momentum", "constant", 5e-4)
        assert (recipe.weight_decay, recipe.batch_size, recipe.epochs) == (2e-4, 32, 20)
        assert (head.inner_learning_rate, head.weight_net_learning_rate, head.part_clip) == (3e-3, 5e-4, 2.0)
        assert (head.text_cycle, head.image_cycle, head.text_from_image, head.image_from_text) == (0.05, 0.05, 2.0, 0.2)
        assert (head.masks, head.translator_dropout, head.embedding_width) == ("three", 0.3, 128)
        assert (head.standardise, head.input_dropout) == (False, 0.0)
        multiple = resolve("ctmwa", CtmwaConfig, Ctmwa.PRESETS, preset="authors", dataset="mvsa_multiple")
        assert (multiple.train.batch_size, multiple.train.learning_rate, multiple.train.epochs) == (64, 7e-4, 8)
        assert (multiple.head.inner_learning_rate, multiple.head.text_from_image) == (4e-3, 1.0)
        assert (multiple.head.text_cycle, multiple.head.image_from_text) == (0.5, 0.5)

    def test_features_of_another_width_are_refused(self, make_batch: MakeBatch) -> None:
        with pytest.raises(ValueError, match=r"context\.vector: expected width 5, found 8"):
            new_head()(make_batch({**WIDTHS, IMAGE: 8}))

    def test_a_loss_needs_labels(self, make_batch: MakeBatch) -> None:
        head = new_head()
        batch = replace(make_batch(WIDTHS), labels=None)
        with pytest.raises(ValueError, match="labels"):
            head.loss(head(batch), batch)


def test_each_epoch_begins_with_the_first_meta_batch(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = labelled_world(make_world)
    taken: list[list[int]] = []
    start = Ctmwa.start_epoch

    def watched(self: Ctmwa, epoch: int, held_out: BatchSource | None) -> None:
        if self._meta is not None:
            taken.append([self._meta.place])
        start(self, epoch, held_out)
        assert self._meta is not None
        assert self._meta.place == 0

    monkeypatch.setattr(Ctmwa, "start_epoch", watched)
    train_small(world, overrides={"epochs": 3, "length_window": 1})
    assert len(taken) == 2
    assert all(steps[0] >= 4 for steps in taken)
