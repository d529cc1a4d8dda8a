"""The published table, cell by cell, and how it is drawn."""

from sentifuse.crowd.benchmarks.published import read_published
from sentifuse.crowd.benchmarks.table import published_grid

SEED = """
3.1 A none B/32 82.2 78.0 75.5 B-T4SA_1.0_upd.h5
3.2 A .70/.70/.70 B/32 84.7 79.7 76.6 B-T4SA_1.0_upd_filt.h5
3.3 B .70/.70/.70 B/32 82.3 78.7 75.3 bal_flat_T4SA2.0.h5
3.4 B .90/.90/.70 B/32 84.4 80.3 77.1 bal_T4SA2.0.h5
3.5 A+B .90/.90/.70 B/32 86.5 82.6 78.9 ViT_B32.h5
3.6 A+B .90/.90/.70 L/32 85.0 82.4 79.4 ViT_L32.h5
3.7 A+B .90/.90/.70 B/16 87.0 83.1 79.4 ViT_B16.h5
3.8 A+B .90/.90/.70 L/16 87.8 84.8 81.9 ViT_L16.h5
"""


def test_the_table_has_eight_rows_of_three_numbers_as_published() -> None:
    rows = [tuple(line.split()) for line in SEED.strip().splitlines()]
    assert [len(row) for row in rows] == [8] * 8
    assert list(published_grid().rows) == rows


def test_the_table_says_where_it_comes_from_and_that_nothing_was_measured() -> None:
    grid = published_grid()
    assert "published" in grid.notes[0]
    assert "ECAI 2023" in grid.notes[1]
    assert grid.headings[4:7] == ("5agree", "4agree", "3agree")


def test_more_agreement_is_easier_for_every_model() -> None:
    for model in read_published().models:
        assert model.accuracy["5agree"] > model.accuracy["4agree"] > model.accuracy["3agree"]


def test_thresholds_are_those_of_their_classes() -> None:
    model = read_published().models[3]
    assert model.thresholds == {"positive": 0.9, "neutral": 0.9, "negative": 0.7}
