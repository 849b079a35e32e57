"""What rows leave behind saves reading, and never takes more than its limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.kept_rows import MOST, Held, KeptRows
from blendin_mlx.tokens.answer_text import common_prefix

WIDTH = 2
BYTES = 2 * WIDTH * 4  # of a token: keys and values of one layer with one head
ROWS = st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=30)


def keep(kept: KeptRows, tokens: list[int]) -> None:
    def held() -> Held:
        return [[mx.zeros((1, len(tokens), WIDTH))] * 2]

    kept.add(tokens, BYTES * len(tokens), held)


@given(ROWS, st.integers(0, 40))
def test_the_limit_holds_and_the_longest_beginning_is_found(
    rows: list[list[int]], tokens: int
) -> None:
    kept = KeptRows(BYTES * tokens)
    for row in rows:
        keep(kept, row)
        assert kept.nbytes <= kept.limit
        length, found = kept.longest(row)
        assert length == max((common_prefix(one.tokens, row) for one in kept._rows), default=0)
        if 0 < len(row) <= tokens:
            assert length == len(row)
            assert found is not None
            assert found.beginning(length)[0][0].shape == (1, length, WIDTH)


def test_a_row_that_goes_on_from_another_takes_its_place() -> None:
    kept = KeptRows(10**6)
    for tokens in ([1, 2], [1, 2, 3], [1], [1, 9]):
        keep(kept, tokens)
    assert sorted(row.tokens for row in kept._rows) == [[1, 2, 3], [1, 9]]


def test_the_one_that_was_not_used_for_longest_is_forgotten_first() -> None:
    kept = KeptRows(BYTES * 4)
    for tokens in ([1, 1], [2, 2]):
        keep(kept, tokens)
    assert kept.longest([1])[0] == 1
    keep(kept, [3, 3])
    assert [row.tokens for row in kept._rows] == [[1, 1], [3, 3]]
    kept.clear()
    assert kept.nbytes == 0


def test_there_are_never_more_than_can_be_compared() -> None:
    kept = KeptRows(10**6)
    for token in range(2 * MOST):
        keep(kept, [token])
    assert [row.tokens[0] for row in kept._rows] == list(range(MOST, 2 * MOST))


def test_nothing_in_common_is_nothing_found() -> None:
    kept = KeptRows(10**6)
    assert kept.longest([1]) == (0, None)
    keep(kept, [1, 2])
    assert kept.longest([2]) == (0, None)
