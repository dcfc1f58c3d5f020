"""Templates of self-contained pages: one way to read them, in which everything from outside is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from lumina_ray.report.words import safe


def templates(package: str) -> Environment:
    """Open the templates of a package; they have the filter `safe_text`, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_text"] = safe
    return environment
