from .html import render_html as render_html
from .json import from_json as from_json
from .json import read_report as read_report
from .json import report_sha256 as report_sha256
from .json import to_json as to_json
from .table import print_table as print_table
