from tests.report.conftest import reports

__all__ = ["reports"]
