"""`lumina evaluate`: the exit code says whether the default method beats its floors."""

import json

import pytest

from lumina_ray.truth.card import MUST_BEAT, Card
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.method_rows import MethodRow
from lumina_ray.truth.scores import BOTH, ScoredChannel
from tests.cli.running import run_lumina

CLEAR, TOUCHING = Estimate(0.2, 0.1, 0.3), Estimate(0.2, -0.1, 0.3)


def card(ahead: Estimate | None, method: str = "companion", channel: ScoredChannel = BOTH) -> Card:
    floors = {} if ahead is None else {"base": CLEAR, "bigram": ahead}
    row = MethodRow(method, channel, {MUST_BEAT[1]: CLEAR}, {}, 1, 0.0, {MUST_BEAT[1]: floors})
    return Card("test", [row], {}, {}, [], [])


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (card(CLEAR), 0, "companion beats all floors in lds_continuations:"),
        (card(TOUCHING), 8, "companion is not shown to beat these floors"),
        (card(TOUCHING), 8, "bigram (lds_continuations)"),
        (card(TOUCHING), 8, "Not compared: lds_excerpt, lds_pieces_specific, alone_excerpt,"),
        # Where nothing is compared, nothing is shown.
        (card(None), 8, "was not compared with any floor"),
        # Nobody asked for the default.
        (card(TOUCHING, method="tokens"), 0, "was not compared with any floor"),
    ],
)
def test_the_exit_code_says_whether_floors_are_beaten(
    made: Card, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.evaluate.evaluate", lambda *_, **__: made)
    monkeypatch.setattr("lumina_ray.truth.bank.load_bank", lambda _: None)
    monkeypatch.setattr("lumina_ray.truth.replayed.load_replayed", lambda *_: None)
    done = run_lumina("evaluate")
    assert done.exit_code == code
    # The sentence may take several lines.
    assert words in " ".join(done.stdout.split())
    as_json = run_lumina("evaluate", "--json")
    assert as_json.exit_code == code
    assert words in json.loads(as_json.stdout)["verdict"]
