from types import SimpleNamespace

import numpy as np

from lumina_ray.calibration.controls import kinds_of_controls
from lumina_ray.cli.calibrate import MIN_OF_KIND, _kinds


def test_kinds_too_small_to_show_a_rate_have_one_line_together():
    best, kinds = np.arange(80.0), ["folk"] * 60 + ["games"] * MIN_OF_KIND + [f"one-{i}" for i in range(10)]
    lines = _kinds(SimpleNamespace(kinds=kinds_of_controls(best, kinds)))
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["folk", "games", "10 kinds of fewer than 10 controls"]


def test_controls_of_one_kind_have_no_lines_of_kinds():
    assert _kinds(SimpleNamespace(kinds=kinds_of_controls(np.arange(60.0), ["folk"] * 60))) == []
