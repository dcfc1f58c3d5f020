"""Draws the tables of docs/unlearning.md from what `benchmarks.unlearning` measured.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; what is between them is replaced.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_GROUPS = ("excerpts", "continuations")
_NAMES = {
    "steps, plain": "forgetting by a step, `plain`",
    "steps, relative": "the same, `relative`",
    "steps, mucs": "the same, `mucs`",
    "first order, the same queries": "forgetting to first order, the same queries",
    "first order, heads, P+M": "`unlearning-linear`: first order, `heads`, P+M",
}


def write_tables(results: dict, page: Path) -> None:
    """Replace the tables of a page; those that were not measured stay as they are."""
    text = page.read_text("utf-8")
    page.write_text(with_tables(results, text), encoding="utf-8")


def with_tables(results: dict, text: str) -> str:
    """Give a page's text with the tables that were measured."""

    def drawn(place: re.Match) -> str:
        begin, name, end = place.groups()
        table, draw = _DRAWN[name]
        return f"{begin}{draw(results[table])}\n{end}" if table in results else place.group()

    return _PLACE.sub(drawn, text)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _interval(estimate: dict[str, float], digits: int = 2) -> str:
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _damping(value: float | None) -> str:
    return "no F" if value is None else f"{value:g}"


def _choose(found: dict) -> str:
    dampings = list(dict.fromkeys(row["damping"] for row in found["rows"]))
    cells: dict[str, dict[float | None, str]] = {}
    for row in found["rows"]:
        text = " / ".join(f"{row[group]:.2f}" for group in _GROUPS)
        chosen = (row["layers"], row["damping"]) == (found["layers"], found["damping"])
        cells.setdefault(row["layers"], {})[row["damping"]] = f"**{text}**" if chosen else text
    headings = ["layers", *(("λ " if d is not None else "") + _damping(d) for d in dampings)]
    return _table(headings, [[f"`{layers}`", *(of[d] for d in dampings)] for layers, of in cells.items()])


def _report(found: dict) -> str:
    rows = []
    for row in found["rows"]:
        ahead = [
            _interval(row["ahead"][rival][group]) if rival != row["name"] else "–"
            for rival in ("influence", "companion")
            for group in _GROUPS
        ]
        name = _NAMES.get(row["name"], row["name"])
        rows.append([name, str(row["queries"]), *(_interval(row["lds"][group]) for group in _GROUPS), *ahead])
    return _table(
        [
            "scores",
            "queries",
            *_GROUPS,
            "less `influence`, excerpts",
            "continuations",
            "less `companion`, excerpts",
            "continuations",
        ],
        rows,
    )


def _trust(found: dict) -> str:
    rows = [
        [
            f"`{row['layers']}`",
            f"{row['nats']:g}",
            f"{row['spearman']:.3f} ({row['least']:.3f})",
            ", ".join(map(str, row["ranks"])),
            f"{row['others_nats']:.5f}",
        ]
        for row in found["rows"]
    ]
    headings = ["layers", "nats", "Spearman with first order (least)", "R", "mean rise of other songs, nats"]
    return (
        f"Forgotten: {found['queries']} queries and {found['own']} catalog songs; compared: {found['songs']} songs.\n\n"
        f"{_table(headings, rows)}"
    )


def _self(found: dict) -> str:
    masks = ("neither", "M_U", "M_L", "both")
    rows = [
        [
            f"`{row['layers']}`",
            "yes" if row["fisher"] else "no",
            *(f"{row[mask]['mean']:.2f} ({row[mask]['first']:.2f})" for mask in masks),
        ]
        for row in found["rows"]
    ]
    return f"Of {found['songs']} such songs:\n\n{_table(['layers', 'F', *masks], rows)}"


def _forget(found: dict) -> str:
    said = (
        f"Means over {found['songs']} songs, each judged by {found['queries']} queries. A training with another seed, "
        f"of the same songs, is {found['another_seed']:.4f} nats from the model.\n\n"
    )
    rows = [
        [
            f"{row['nats']:g}",
            _interval(row["distance"], 4),
            _interval(row["untouched"], 4),
            _interval(row["spearman"]),
            f"{row['own_forgotten']['value']:.4f} / {row['own_retrained']['value']:.4f}",
            f"{row['others_forgotten']['value']:.5f} / {row['others_retrained']['value']:.5f}",
        ]
        for row in found["rows"]
    ]
    return said + _table(
        [
            "`--nats`",
            "copy to retrained, nats",
            "untouched model to retrained, nats",
            "Spearman",
            "own queries rise: copy / retrained",
            "others rise: copy / retrained",
        ],
        rows,
    )


def _similarity(found: dict) -> str:
    rows = [[row["name"], _interval(row["top"]), _interval(row["bottom"])] for row in found["rows"]]
    return _table(["scores", f"top {found['k']}", f"bottom {found['k']}"], rows)


def _correlation(found: dict) -> str:
    numbered = [f"{n} {name}" for n, name in enumerate(found["names"], start=1)]
    rows = [[name, *(f"{value:.2f}" for value in row)] for name, row in zip(numbered, found["matrix"], strict=True)]
    return _table(["", *(str(n) for n in range(1, len(rows) + 1))], rows)


def _curves(found: dict) -> str:
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in found["curves"].items()]
    return _table(["scores", *map(str, found["ranks"])], rows)


def _generations(found: dict) -> str:
    rows = [[row["model"], f"{1e5 * row['to_catalog']:.2f}", f"{1e5 * row['to_before']:.2f}"] for row in found["rows"]]
    return _table(["music made up by the model, 10⁻⁵", "to the catalog", "to that of the model as it is"], rows)


def _cost(found: dict) -> str:
    ratio = found["seconds"] / found["pass_s"]
    return _table(
        ["", "processor seconds"],
        [
            ["one pass of losses over the catalog, 104 songs of 10 s", f"{found['pass_s']:.1f}"],
            ["a query: forgetting it, and one pass", f"{found['seconds']:.1f}, {ratio:.2f} passes"],
        ],
    )


def _speed(found: dict) -> str:
    of_layers = found["forgotten_s"]
    least, most = (pick(of_layers, key=of_layers.__getitem__) for pick in (min, max))
    rows = [
        [
            "forgetting a clip of 10 s, one step, with its losses before and after",
            f"{of_layers[least]:.2f} s (`{least}`) to {of_layers[most]:.2f} s (`{most}`)",
        ],
        ["losses of the catalog, for each query", f"{found['losses_per_s']:.1f} clips of 10 s a second"],
        [
            "first order (`heads`), once for each song",
            f"{found['first_order_per_s']:.1f} clips of 10 s a second; then inner products",
        ],
        ["Fisher information, once for each model", f"{found['fisher_per_s']:.1f} clips of 10 s a second"],
        ["peak memory of the process", f"{found['peak_gib']:.2f} GiB"],
    ]
    return _table(["", found["model"]], rows)


_DRAWN: dict[str, tuple[str, Callable[[dict], str]]] = {
    "choose": ("choose", _choose),
    "report": ("report", _report),
    "cost": ("exact", _cost),
    "trust": ("trust", _trust),
    "self": ("self", _self),
    "forget": ("forget", _forget),
    "similarity": ("similarity", _similarity),
    "correlation": ("similarity", _correlation),
    "curves": ("similarity", _curves),
    "generations": ("generations", _generations),
    "speed": ("speed", _speed),
}
