import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lumina_ray.attribution import Report, SongFacts
from lumina_ray.attribution.partial import as_partial
from lumina_ray.errors import UsageError
from lumina_ray.report import from_json, sentences, to_json
from lumina_ray.report.json import parse_report

NAMES = ["calibrated", "v8", "v7", "noise"]


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_exact(reports, name):
    text = to_json(reports[name])
    assert from_json(text) == reports[name]
    assert to_json(from_json(text)) == text


@pytest.mark.parametrize("name", [*NAMES, "membership", "nothing v8"])
def test_the_bytes_are_those_of_pydantics_own_copy(reports, name):
    for report in (reports[name], as_partial(reports[name], [range(50, 70)], 130)):
        copy = report.model_dump(mode="json")
        expected = json.dumps(copy, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        assert to_json(report) == expected


def test_no_number_that_json_lacks_is_written(reports):
    policy = reports["v8"].policy.model_copy(update={"ridge": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        to_json(reports["v8"].model_copy(update={"policy": policy}))
    with pytest.raises(TypeError, match="int64 has no place in a report"):
        to_json(reports["v8"].model_copy(update={"policy": np.int64(1)}))


def test_keys_are_sorted_and_channels_apart(reports):
    report = json.loads(to_json(reports["calibrated"]))
    assert list(report) == sorted(report)
    assert set(report) == {"basis", "format_version", "influence", "near_copies", "policy", "provenance", "query"}
    assert set(report["near_copies"]) == {"P", "M"}
    candidate = report["near_copies"]["P"]["candidates"][0]
    assert {"similarity", "kernel_score", "z", "p_value", "family_wise_p", "level", "share", "song"} <= set(candidate)
    assert len(candidate["chunk_similarities"]) == len(report["query"]["chunks"]) == 4


def test_reads_no_other_format(reports):
    with pytest.raises(UsageError, match="not an attribution report of this software version"):
        from_json('{"format_version": 8}')
    for older in (1, 2, 3, 4, 5, 6):
        text = to_json(reports["v8"]).replace('"format_version":7', f'"format_version":{older}')
        with pytest.raises(UsageError, match=f"version {older} was written by an earlier lumina-ray") as refused:
            from_json(text)
        assert str(refused.value).endswith("and this one reads version 7; attribute the audio again")


def strings(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the name that it has there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, name)
    elif isinstance(value, str):
        yield name, value


@pytest.mark.parametrize("name", [*NAMES, "membership", "nothing v8"])
def test_a_report_holds_no_sentences(reports, name):
    partial = as_partial(reports[name], [range(50, 70)], 130)
    values = json.loads(to_json(partial))
    # Its texts are part of what the specification's own hash is taken of.
    del values["basis"]["specification"]
    texts = [(key, text) for key, text in strings(values) if key not in SongFacts.model_fields]
    # Levels are the policies' own names, of at most three words.
    assert [(key, text) for key, text in texts if len(text.split()) > 3] == []


@given(st.integers(1, 99), st.integers(2, 99), st.sampled_from(["default", "first_with_sound", "no_sound"]))
def test_the_stream_that_was_taken_is_data_and_a_sentence_where_it_is_shown(reports, number, of, reason):
    values = json.loads(to_json(reports["v8"]))
    assert values["query"]["audio_stream"] is None
    assert sentences.stream_taken(reports["v8"]) is None
    values["query"]["audio_stream"] = {"number": number, "of": of, "reason": reason}
    report = Report.model_validate(values)
    assert from_json(to_json(report)) == report
    assert json.loads(to_json(report)) == values
    said = sentences.stream_taken(report)
    assert said is not None
    assert said.startswith(f"The query's file has {of} audio streams. Number {number} was attributed: it is ")


EMPTY = ",".join(["{}"] * 20_000)
UNKNOWN = ",".join(f'"{i:x}":0' for i in range(20_000))
BOMBS = {
    "candidates": f'{{"near_copies":{{"P":{{"candidates":[{EMPTY}]}}}}}}',
    "numbers": f'{{"near_copies":{{"P":{{"noise":{{"control_maxima":[{EMPTY}]}}}}}}}}',
    "fields": f"{{{UNKNOWN}}}",
    "channels": f'{{"near_copies":{{{UNKNOWN}}}}}',
    "environment": f'{{"basis":{{"environment":{{{UNKNOWN}}}}}}}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_wrong_a_thousand_times_is_found_once(name):
    with pytest.raises(UsageError, match="not an attribution report") as refused:
        from_json(BOMBS[name])
    assert isinstance(refused.value.__cause__, ValidationError)
    assert refused.value.__cause__.error_count() < 50


@pytest.mark.parametrize("text", ["", "<html>", "[" * 10_000, '{"format_version": NaN}', b"\xff", "1"])
def test_what_is_no_json_is_no_report(text):
    with pytest.raises(UsageError, match="not an attribution report"):
        from_json(text)


def test_fields_that_no_report_has_break_its_bytes(reports):
    text = to_json(reports["v8"])
    with pytest.raises(UsageError, match="not canonical JSON"):
        parse_report(b'{"a":0,' + text.encode()[1:], "report")


def test_what_was_not_searched_is_said(reports):
    partial = as_partial(reports["v8"], [range(50, 70)], 130)
    text = to_json(partial)
    assert from_json(text) == partial
    values = json.loads(text)
    assert (values["format_version"], values["unsearched"]) == (7, [{"first_row": 50, "n_songs": 20}])
    assert "unsearched" not in json.loads(to_json(reports["v8"]))
    silent = json.loads(to_json(reports["v8"]))["near_copies"]
    for change in ({"near_copies": silent}, {"unsearched": None}, {"unsearched": []}):
        with pytest.raises(UsageError, match="unsearched"):
            from_json(json.dumps(values | change))
