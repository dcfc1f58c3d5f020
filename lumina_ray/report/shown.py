"""A report for Python users: as a table of pandas, and as a picture in a notebook."""

import html
from typing import TYPE_CHECKING

from lumina_ray.attribution import Report
from lumina_ray.vocabulary import Channel

if TYPE_CHECKING:
    import pandas as pd

_HEIGHT_PX = 900


class ShownReport(Report):
    """A report with the same fields and the same JSON, which can also show itself."""

    @classmethod
    def of(cls, report: Report) -> "ShownReport":
        """Give a report these abilities. Nothing is copied."""
        fields = {name: getattr(report, name) for name in Report.model_fields}
        return cls.model_construct(_fields_set=set(report.model_fields_set), **fields)

    def to_frame(self, channel: Channel) -> "pd.DataFrame":
        """The listed songs of one channel by rank, a row each; see `lumina_ray.report.frame.to_frame`.

        Raises:
            UsageError: the report has no such channel.
        """
        # Pandas takes as long to load as all else.
        from lumina_ray.report.frame import to_frame

        return to_frame(self, channel)

    def __repr__(self) -> str:
        answers = (
            f"{name}: {channel.qualified} of {channel.searched} songs qualify, {channel.unattributed:.1%} unattributed"
            for name, channel in self.near_copies.items()
        )
        return f"Report({'; '.join(answers)})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        # Pictures take matplotlib.
        from lumina_ray.report.html import render_html

        # In a frame of its own: the page's style would change the notebook's.
        page = html.escape(render_html(self))
        return f'<iframe srcdoc="{page}" sandbox style="width:100%;height:{_HEIGHT_PX}px;border:0"></iframe>'
