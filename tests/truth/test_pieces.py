"""Pieces that the models of a bank are asked to make up, and the queries that they become."""

from dataclasses import replace

import pytest
import torch

from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.models import TextParts, new_model
from lumina_ray.truth.pieces import Order, make_pieces, orders, piece_queries
from lumina_ray.truth.queries import QUERY_FRAMES
from lumina_ray.truth.recipe import SMALL

RECORDINGS = corpus(0)
CAPTIONS = [f"slow music {i % 30}, organ" for i in range(len(RECORDINGS))]
TINY = replace(SMALL, n_layers=1, dim=32, captions=2, free=1)


def test_the_audited_model_makes_pieces_of_all_kinds() -> None:
    wanted = {order.kind: order for order in orders(SMALL, "A", RECORDINGS, CAPTIONS)}
    assert set(wanted) == {"generated", "prompted", "captioned", "guided", "continued"}
    captions = wanted["guided"].captions
    assert len(set(captions)) == len(captions) == 30 < SMALL.captions
    assert sorted(wanted["captioned"].captions) == sorted(captions * 2)
    assert wanted["guided"].guidance == 3.0
    assert set(captions) <= {CAPTIONS[i] for i in members(RECORDINGS, "A")}
    catalog = set(members(RECORDINGS, "A"))
    assert len(wanted["prompted"].prompts) == 128, "both recordings of every twin"
    assert set(wanted["continued"].prompts) < catalog
    assert wanted["continued"].captions == tuple(CAPTIONS[i] for i in wanted["continued"].prompts)


def test_others_make_what_they_are_compared_by() -> None:
    kinds = {name: [order.kind for order in orders(SMALL, name, RECORDINGS, CAPTIONS)] for name in ("B", "reference")}
    assert kinds == {"B": ["generated", "prompted"], "reference": ["foreign"]}
    (foreign,), (*_, guided, _) = (orders(SMALL, name, RECORDINGS, CAPTIONS) for name in ("reference", "A"))
    assert foreign.captions == guided.captions


@pytest.fixture(scope="module")
def made() -> tuple[tuple[Order, ...], list[torch.Tensor]]:
    model = new_model(TINY, text=TextParts(("slow", "music", "organ", "fast")))
    codes = [torch.full((4, 750), i % 512) for i in range(3)]
    wanted = (
        Order("generated", ("",)),
        Order("captioned", ("slow organ", "music", "fast organ music", "slow organ")),
        Order("continued", ("fast music", "slow"), (0, 2)),
    )
    return wanted, make_pieces(TINY, model, wanted, codes)


def test_pieces_have_their_lengths_and_the_prompt_is_no_part(made: tuple) -> None:
    _, (free, captioned, continued) = made
    assert free.shape == (1, 4, QUERY_FRAMES)
    assert captioned.shape == (4, 4, QUERY_FRAMES)
    assert continued.shape == (2, 4, QUERY_FRAMES - TINY.prompt_frames)
    assert not torch.equal(captioned[0], captioned[3]), "a seed for each"


def test_pieces_become_queries_of_their_captions_split(made: tuple) -> None:
    wanted, pieces = made
    queries = list(piece_queries(RECORDINGS, "A", wanted, pieces, seed=0))
    assert [query.kind for query in queries] == ["generated", *["captioned"] * 4, *["continued"] * 2]
    assert [query.caption for query in queries] == ["", *wanted[1].captions, *wanted[2].captions]
    assert [query.recording for query in queries] == [-1] * 5 + [0, 2]
    assert queries[1].split == queries[4].split
    assert all(torch.equal(query.codes_KT, piece) for query, piece in zip(queries[1:5], pieces[1], strict=True))
