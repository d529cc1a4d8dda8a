"""The rule behind golden files, against numbers written down elsewhere."""

import numpy as np

from sentifuse.fuse.golden.rule import integers, mask, parameter, reals, uniform


def test_streams_begin_as_written_down() -> None:
    assert uniform(1, "ctmwa.param.text_encoder.weight", (3,)).tolist() == [
        0.6995582300154142,
        0.2006040423031079,
        0.1976171468773792,
    ]
    assert uniform(1, "itin.regions", (3, 1)).ravel().tolist() == [
        0.6190054380771558,
        0.32674207386375187,
        0.920198543274675,
    ]


def test_seed_and_name_both_choose_the_stream() -> None:
    streams = {uniform(seed, name, (4,)).tobytes() for seed in (1, 2, 11) for name in ("a", "b", "1:a")}
    assert len(streams) == 9


def test_kinds_of_numbers_come_from_the_same_stream() -> None:
    u = uniform(3, "x", (50,))
    assert np.array_equal(reals(3, "x", (50,), 1.5), 1.5 * (2 * u - 1))
    assert integers(3, "x", (50,), 7).tolist() == [int(value * 7) for value in u]
    assert mask(3, "x", (50,), 0.7).tolist() == [int(value < 0.7) for value in u]


def test_bounds_of_parameters_are_those_of_their_rank() -> None:
    assert np.abs(parameter(1, "bias", (500,))).max() <= 0.1
    matrix = parameter(1, "weight", (50, 12))
    assert 0.45 < np.abs(matrix).max() <= 0.5  # sqrt(3 / 12)
    assert np.allclose(parameter(1, "weight", (50, 12), gain=6.0), matrix * np.sqrt(2))
