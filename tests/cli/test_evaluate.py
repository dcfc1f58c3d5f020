"""`lumina evaluate --require-floors`: the exit code says whether the default method beats its floors."""

import json

import pytest

from lumina_ray.truth.card import Card
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.method_rows import MethodRow
from tests.cli.running import run_lumina

CLEAR, TOUCHING = Estimate(0.2, 0.1, 0.3), Estimate(0.2, -0.1, 0.3)


def card(*aheads: dict[str, Estimate]) -> Card:
    rows = [MethodRow("influence", "P", {"lds_excerpt": CLEAR}, {}, 1, 0.0, {"lds_excerpt": of}) for of in aheads]
    return Card("test", rows, {}, {}, [], [])


@pytest.mark.parametrize(
    ("made", "required", "code", "words"),
    [
        (card({"bigram": CLEAR}), True, 0, "beats all floors"),
        (card({"bigram": TOUCHING}), True, 8, "bigram (excerpt P)"),
        (card({"bigram": TOUCHING}), False, 0, "bigram (excerpt P)"),
        (card({}), True, 8, "influence"),
        (card(), True, 8, ""),
    ],
)
def test_the_exit_code_says_whether_floors_are_beaten(
    made: Card, required: bool, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.evaluate.evaluate", lambda *_: made)
    monkeypatch.setattr("lumina_ray.truth.bank.load_bank", lambda _: None)
    flags = ["--require-floors"] if required else []
    done = run_lumina("evaluate", *flags)
    assert done.exit_code == code
    # The sentence may take several lines.
    assert words in " ".join(done.stdout.split())
    as_json = run_lumina("evaluate", "--json", *flags)
    assert as_json.exit_code == code
    assert words in json.loads(as_json.stdout)["verdict"] or not made.rows or not made.rows[0].ahead["lds_excerpt"]


def test_floors_are_those_of_the_default_method() -> None:
    done = run_lumina("evaluate", "--require-floors", "--method", "tokens")
    assert done.exit_code == 2
    assert "--method influence" in done.stderr
