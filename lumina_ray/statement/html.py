"""A statement as one self-contained page that prints on paper: no scripts, no requests."""

from lumina_ray.report.page import templates
from lumina_ray.statement import sentences
from lumina_ray.statement.json import statement_sha256
from lumina_ray.statement.schema import Statement

MOST_LINES, MOST_SONGS = 1000, 2000
"""Lines of a channel, and songs of a holder's lines, that are on the page; all of them are in the tables."""

_ENVIRONMENT = templates("lumina_ray.statement")
_ENVIRONMENT.filters["amount"] = sentences.amount


def render_html(statement: Statement) -> str:
    """The whole page as a string. Everything that came from outside (titles, names) is escaped."""
    return _ENVIRONMENT.get_template("statement.html.j2").render(
        statement=statement,
        sha256=statement_sha256(statement),
        sentences=sentences,
        most_lines=MOST_LINES,
        most_songs=MOST_SONGS,
    )
