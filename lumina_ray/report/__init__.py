"""A report for machines (JSON), for a terminal (table) and for people (one HTML page)."""

from lumina_ray.report.html import render_html
from lumina_ray.report.json import from_json, read_report, report_sha256, to_json
from lumina_ray.report.table import print_table

__all__ = ["from_json", "print_table", "read_report", "render_html", "report_sha256", "to_json"]
