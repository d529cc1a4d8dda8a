import numpy as np
import pytest

from sentifuse.extract.detector.architecture import VISUAL_GENOME, Architecture, tensor_specs
from sentifuse.extract.detector.boxes import cell_anchors, cell_anchors_of_caffe
from sentifuse.extract.detector.golden.rule import digest_of_weights, synthetic_tensor, synthetic_weights


@pytest.mark.parametrize(
    ("seed", "key", "first"),
    [
        (1, "backbone.stem.conv1.weight", (-0.07037745, -0.03316542, -0.00851094)),
        (1, "roi_heads.box_predictor.cls_score.weight", (-0.05434065, 0.00609666, 0.02920248)),
        (101, "roi_heads.box_predictor.cls_score.weight", (-0.06951836, -0.02528096, -0.04323709)),
        (101, "backbone.res2.0.conv3.norm.weight", (0.18533847, 0.13185212, 0.16653697)),
    ],
)
def test_published_check_values(seed: int, key: str, first: tuple[float, ...]) -> None:
    tensor = synthetic_tensor(seed, key, tensor_specs(VISUAL_GENOME)[key])
    assert np.allclose(tensor.reshape(-1)[:3], first, atol=5e-9)


def test_the_network_has_640_tensors_of_65_million_numbers() -> None:
    specs = tensor_specs(VISUAL_GENOME)
    assert len(specs) == 640
    assert sum(int(np.prod(spec.shape)) for spec in specs.values()) == 65_545_318


def test_even_seeds_have_caffes_anchors(sizes: Architecture) -> None:
    key = "proposal_generator.anchor_generator.cell_anchors.0"
    spec = tensor_specs(sizes)[key]
    assert np.array_equal(synthetic_tensor(3, key, spec), cell_anchors().numpy())
    assert np.array_equal(synthetic_tensor(2, key, spec), cell_anchors_of_caffe().numpy())


@pytest.mark.slow
def test_all_weights_of_seed_1_are_those_published() -> None:
    digest = digest_of_weights(synthetic_weights(1, VISUAL_GENOME))
    assert digest == "ad1294285353452192206876236e9aa2fbed0dc2a003602228755f8e8a4ad369"
