"""Reports that are verified over HTTP, and on snapshots that no longer answer."""

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from ray.exceptions import RayTaskError

import serve
from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import attribute
from lumina_ray.client import Client, EndpointError
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.index import load_snapshot
from lumina_ray.report import from_json, report_sha256, to_json
from lumina_ray.report.sign import make_key, sign_report
from serve import verification
from serve.app import ServeArgs, Server
from serve.catalog import as_query
from serve.page import MAX_REPORT_BYTES
from serve.problems import Problem
from tests.serve.app import Deployment, asking, make_services
from tests.serve.conftest import sound, wav
from tests.serve.problems import assert_problem
from tests.serve.test_catalog import fingerprint_of

VERIFY = "/v1/reports/verify"


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `query.wav`, the endpoint's report on it, and an operator's signature and key."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "query.wav").write_bytes(wav(sound(3, 12.0)))
    with Client(server.address) as client:
        (folder / "report.json").write_bytes(to_json(client.attribute(folder / "query.wav", top_k=5)).encode())
    make_key(folder / "key.pem")
    sign_report(folder / "report.json", folder / "key.pem")
    return folder


def changed(report: bytes, change: Callable[[dict], object]) -> bytes:
    values = json.loads(report)
    change(values)
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def test_a_true_report_is_identical_and_signed(server: Server, made: Path) -> None:
    report = from_json((made / "report.json").read_bytes())
    with Client(server.address) as client:
        found = client.verify_report(made / "report.json", made / "query.wav", made / "report.json.sig")
        unheard = client.verify_report(made / "report.json")
        with pytest.raises(UsageError, match=r"nothing\.json"):
            client.verify_report(made / "nothing.json")
        with pytest.raises(EndpointError) as refused:
            client.verify_report(made / "query.wav")
    assert (found.result, found.difference, found.environment) == ("identical", None, ())
    assert found.report_sha256 == unheard.report_sha256 == report_sha256(report)
    assert found.signed_by == json.loads((made / "report.json.sig").read_text())["public_key"]
    assert (unheard.result, unheard.signed_by, unheard.index_version) == (None, None, report.basis.index_version)
    assert (refused.value.status, refused.value.code) == (422, "report.invalid")


def test_a_changed_number_is_pointed_at(client: httpx.Client, made: Path) -> None:
    def raise_share(report: dict) -> None:
        report["near_copies"]["P"]["candidates"][0]["share"] = 0.999

    files = {"report": changed((made / "report.json").read_bytes(), raise_share)}
    files["audio"] = (made / "query.wav").read_bytes()
    answer = client.post(VERIFY, files=files).json()
    assert (answer["result"], answer["difference"]["path"]) == ("different", "/near_copies/P/candidates/0/share")
    assert answer["difference"]["report"] == 0.999
    # The signature is not one of these bytes.
    signed = {"report": files["report"], "signature": (made / "report.json.sig").read_bytes()}
    assert_problem(client.post(VERIFY, files=signed), 422, "signature.invalid")


def test_what_cannot_be_verified_is_refused(client: httpx.Client, made: Path) -> None:
    report = (made / "report.json").read_bytes()

    def named(**basis: str) -> bytes:
        return changed(report, lambda values: values["basis"].update(basis))

    for files, code in (
        ({"report": report, "audio": wav(sound(4, 12.0))}, "report.mismatch"),
        ({"report": named(index_version="v0099")}, "report.mismatch"),
        ({"report": named(index_version="../index/v0001")}, "report.mismatch"),
        ({"report": named(index_key="0" * 64)}, "report.mismatch"),
        ({"report": report + b"\n"}, "report.invalid"),
        ({"report": b"{}"}, "report.invalid"),
        ({"report": changed(report, lambda values: values["policy"].update(top_k=10**9))}, "report.invalid"),
        ({"report": report, "signature": b"{}"}, "signature.invalid"),
        ({"report": report, "audio": b"no audio"}, "audio.undecodable"),
        ({"audio": b"no report"}, "request.no_report"),
        ({"report": (None, "text")}, "request.no_report"),
    ):
        assert_problem(client.post(VERIFY, files=files), 422, code)
    assert_problem(client.post(VERIFY, json={}), 415, "request.not_multipart")


def test_what_is_too_large_is_called_by_its_name() -> None:
    args = ServeArgs(index="unused", open_access=True, max_upload_bytes=1000)
    with asking(make_services(args=args)) as client:
        for files, code, said in (
            ({"report": b"{}", "signature": bytes(5000)}, "signature.too_large", "The signature is larger than 4096"),
            ({"report": bytes(MAX_REPORT_BYTES + 1)}, "report.too_large", "The report is larger than 16777216 bytes."),
            ({"report": b"{}", "audio": bytes(1001)}, "audio.too_large", "send an excerpt"),
            # Refused before it is known which of them it is.
            ({"report": b"{}", "signature": bytes(17 << 20)}, "request.too_large", "report 16777216, audio 1000, sig"),
        ):
            answer = client.post(VERIFY, files=files)
            assert_problem(answer, 413, code)
            assert said in answer.json()["detail"]
            assert ("audio" in answer.json()["detail"]) == (code == "request.too_large")
        many = client.post("/v1/reports/html", files={"report": b"{}", "signature": bytes(5000)})
        assert_problem(many, 413, "signature.too_large")


DRAW = "/v1/reports/html"


def test_a_drawn_report_says_what_was_not_verified(client: httpx.Client, made: Path) -> None:
    report, signature = ((made / name).read_bytes() for name in ("report.json", "report.json.sig"))

    def told(**files: bytes) -> str:
        answer = client.post(DRAW, files=files)
        assert answer.status_code == 200
        (note,) = re.findall(r'<div class="warning unverified" role="note">(.*?)</div>', answer.text, re.DOTALL)
        assert "Not verified." in note
        assert "nothing was computed again" in note
        return html.unescape(note)

    unsigned = told(report=report)
    assert "no signature came with it" in unsigned
    alone = client.post(DRAW, content=report, headers={"Content-Type": "application/json"})
    assert alone.text == client.post(DRAW, files={"report": report}).text
    key = json.loads(signature)["public_key"]
    signed = told(report=report, signature=signature)
    assert f"by key {key}" in signed
    assert "does not know whose" in signed
    assert "no signature" not in signed
    forged = changed(report, lambda values: values["near_copies"]["P"].update(unattributed=0.5))
    assert "one was changed" in told(report=forged, signature=signature)
    assert "a signature" in told(report=report, signature=b"{}")
    elsewhere = changed(report, lambda values: values["basis"].update(index_key="0" * 64))
    assert "The snapshot that the report names is not here" in told(report=elsewhere)
    assert "canonical" in told(report=json.dumps(json.loads(report), indent=1).encode())
    # What names another index has no rights on the page.
    hostile = changed(report, lambda values: values["basis"].update(index_version="<script>alert(1)</script>"))
    assert "<script>alert" not in client.post(DRAW, files={"report": hostile}).text


def test_a_report_is_not_drawn_as_unverified_because_the_index_is_lost() -> None:
    text = Path(serve.__file__).with_name("example_report.json").read_bytes()
    lost = Problem.retry_later(503, "server.unavailable", "lost")
    for outcome in (lost, RayTaskError("f", "", StoreError("/tmp/secret")).as_instanceof_cause()):
        with asking(make_services(searcher=Deployment(verify=outcome))) as client:
            assert_problem(client.post(DRAW, content=text), 503, "server.unavailable")


def test_a_report_on_an_older_version_is_verified_one_at_a_time(index_dir: Path, tmp_path: Path) -> None:
    for version in ("v0001", "v0002"):
        shutil.copytree(index_dir / "v0001", tmp_path / version)
    old, live = (load_snapshot(tmp_path / version) for version in ("v0001", "v0002"))
    query = as_query(FingerprintQuery(**fingerprint_of(old, 3)), old)
    report = to_json(attribute(query, old)).encode()

    def verify() -> verification.ReportVerification:
        return verification.verify(report, None, query, live, tmp_path / "v0002")

    found = verify()
    assert (found.result, found.index_version) == ("identical", "v0001")
    with verification._OTHER_VERSION, pytest.raises(Problem) as busy:
        verify()
    assert (busy.value.status, busy.value.code) == (429, "server.busy")
    (tmp_path / "v0001" / "P.faiss").write_bytes(b"damaged")
    with pytest.raises(Problem) as damaged:
        verify()
    assert (damaged.value.status, damaged.value.code) == (422, "report.mismatch")
    assert str(tmp_path) not in damaged.value.detail
