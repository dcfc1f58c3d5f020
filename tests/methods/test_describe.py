from lumina_ray.methods import METHODS
from lumina_ray.methods.describe import describe_methods


def test_every_method_has_a_row_with_all_its_cells() -> None:
    rows = {row["method"]: row for row in describe_methods()}
    assert list(rows) == list(METHODS)
    assert all(cell for row in rows.values() for cell in row.values())
    assert rows["stats"]["numbers"] == "216"
    assert rows["logra"]["numbers"] == "3600"  # 36 tensors, each to 10 × 10
    assert rows["tokens"]["numbers"] == "2048 / 4096"
    assert rows["influence"]["cost"] == "forward"
    assert "learning rates" in rows["tracin"]["needs"]
