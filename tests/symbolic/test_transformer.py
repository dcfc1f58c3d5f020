"""The Music Transformer: relative attention against loops, no look ahead, and size."""

import torch

from lumina_ray.symbolic.recipe import SMALL
from lumina_ray.symbolic.training import new_model
from lumina_ray.symbolic.transformer import MusicTransformer


def small(seed: int = 0) -> MusicTransformer:
    return MusicTransformer(n_layers=2, dim=16, heads=2, window=12, n_events=20, seed=seed)


def test_skewing_is_looking_up_the_embedding_of_each_distance() -> None:
    layer = small().layers[0]
    for T in (12, 7):
        query_BHTd = torch.randn(3, 2, T, 8)
        found = layer.relative(query_BHTd)  # type: ignore[operator]
        for i in range(T):
            for j in range(i + 1):
                # The last embedding is that of distance 0.
                expected = (query_BHTd[:, :, i] * layer.distances_HTd[:, 11 - (i - j)]).sum(dim=-1)  # type: ignore[index]
                torch.testing.assert_close(found[:, :, i, j], expected)


def test_attention_is_that_of_a_loop_over_heads_and_events() -> None:
    layer = small().layers[0]
    hidden_BTD = torch.randn(2, 5, 16)
    query, key, value = layer.projections(hidden_BTD).reshape(2, 5, 3, 2, 8).unbind(dim=2)  # type: ignore[operator]
    expected = torch.zeros(2, 5, 2, 8)
    for b in range(2):
        for h in range(2):
            for i in range(5):
                scores = torch.stack(
                    [query[b, i, h] @ (key[b, j, h] + layer.distances_HTd[h, 11 - (i - j)]) for j in range(i + 1)]  # type: ignore[index]
                )
                expected[b, i, h] = (scores / 8**0.5).softmax(dim=0) @ value[b, : i + 1, h]
    torch.testing.assert_close(layer._attend(hidden_BTD), expected.reshape(2, 5, 16))  # type: ignore[operator]


def test_no_event_is_predicted_from_itself_or_a_later_one() -> None:
    model, events = small(), torch.randint(20, (1, 12))
    changed = events.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 20
    same, other = model(events), model(changed)
    # What is predicted for place 7 looks at events before it.
    torch.testing.assert_close(same[:, :8], other[:, :8])
    assert not torch.allclose(same[:, 8], other[:, 8])
    expected = -same.log_softmax(dim=-1)[0, torch.arange(12), events[0]]
    torch.testing.assert_close(model.losses(events)[0], expected)


def test_equal_seeds_give_equal_weights_and_the_models_are_small() -> None:
    events = torch.randint(20, (1, 12))
    torch.testing.assert_close(small(1)(events), small(1)(events))
    assert not torch.allclose(small(1)(events), small(2)(events))
    assert sum(p.numel() for p in new_model(SMALL, 0).parameters()) < 1_000_000
