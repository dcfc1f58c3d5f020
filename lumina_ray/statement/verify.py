"""Verify a statement: add its reports up again, and compare every value."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from lumina_ray.errors import StatementError
from lumina_ray.report.verify import Difference, differences
from lumina_ray.statement.json import statement_sha256, to_json
from lumina_ray.statement.lineage import Lineage
from lumina_ray.statement.make import for_holder, make_statement
from lumina_ray.statement.reading import Read
from lumina_ray.statement.schema import Statement


@dataclass(frozen=True)
class StatementVerification:
    """The outcome of checking a statement.

    Attributes:
        result: "identical": every byte came out again. "different": something did not. None: the reports were not
            given, and only the file itself was checked: its layout, and that it adds up.
        difference: the first one.
    """

    result: Literal["identical", "different"] | None
    statement_sha256: str
    difference: Difference | None

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def sentence(self) -> str:
        if self.result is None:
            return (
                f"whole: statement {self.statement_sha256} is laid out as it was written, and all its sums are right. "
                "Its reports were not added up again: --reports does that."
            )
        if self.difference is None:
            return f"identical: every byte of statement {self.statement_sha256} came out of the reports again."
        said = self.difference.sentence.replace("in the report,", "in the statement,")
        return f"different: {said}."


def check_statement(statement: Statement) -> StatementVerification:
    """Tell what reading a statement's file has shown: it is whole, and adds up."""
    return StatementVerification(None, statement_sha256(statement), None)


def verify_statement(statement: Statement, reads: Iterable[Read], lineage: Lineage) -> StatementVerification:
    """Add reports up again, and compare.

    Args:
        reads: all reports of the whole statement, in any order.

    Raises:
        StatementError: they cannot be added up.
    """
    again = make_statement(reads, statement.by, statement.period, lineage, signed_by=statement.reports.signed_by)
    if statement.holder is not None:
        try:
            again = for_holder(again, statement.holder)
        except StatementError:
            gone = Difference("/holder", statement.holder, None)
            return StatementVerification("different", statement_sha256(statement), gone)
    same = to_json(again) == to_json(statement)
    found = None if same else next(differences(statement.model_dump(mode="json"), again.model_dump(mode="json")))
    return StatementVerification("identical" if same else "different", statement_sha256(statement), found)
