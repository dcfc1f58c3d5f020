import pytest

from tests.statement.making import of_audio, real_reports


@pytest.fixture(scope="session")
def reports() -> list[bytes]:
    """Reports of 24 clips, each of other audio."""
    return [of_audio(report, number) for number, report in enumerate(real_reports(24))]
