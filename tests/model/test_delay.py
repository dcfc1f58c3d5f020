"""The delay pattern against audiocraft's own provider, exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.model.interface import delay, undelay, valid_targets

patterns = pytest.importorskip("audiocraft.modules.codebooks_patterns")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(4, 40), st.integers(0, 2**31))
def test_equals_audiocraft(B: int, K: int, T: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes_BKT = torch.randint(0, 100, (B, K, T), generator=generator)
    pattern = patterns.DelayedPatternProvider(K).get_pattern(T)
    theirs_BKS, _, _ = pattern.build_pattern_sequence(codes_BKT, 100, keep_only_valid_steps=True)
    assert torch.equal(delay(codes_BKT, pad_token=100), theirs_BKS)

    values_BKSX = torch.randn(B, K, T + 1, 3, generator=generator)
    reverted_BXKT, _, mask_KT = pattern.revert_pattern_logits(
        values_BKSX.permute(0, 3, 1, 2), float("nan"), keep_only_valid_steps=True
    )
    valid_BKT = valid_targets([T] * B, K, T, torch.device("cpu"))
    assert torch.equal(valid_BKT[0], mask_KT)
    ours_BKTX, theirs_BKTX = undelay(values_BKSX), reverted_BXKT.permute(0, 2, 3, 1)
    assert torch.equal(ours_BKTX[valid_BKT], theirs_BKTX[valid_BKT])
    assert ours_BKTX.isfinite().all()


def test_a_10_second_chunk_has_1994_valid_targets() -> None:
    assert valid_targets([500], 4, 500, torch.device("cpu")).sum() == 1994


def test_a_padded_chunk_has_the_targets_of_its_true_length() -> None:
    padded_BKT = valid_targets([300, 500], 4, 500, torch.device("cpu"))
    alone_BKT = valid_targets([300], 4, 300, torch.device("cpu"))
    assert torch.equal(padded_BKT[:1, :, :300], alone_BKT)
    assert not padded_BKT[0, :, 300:].any()
