"""Codes of recordings and works, and splits: each is read in the ways that people write it, and kept in one of them."""

import re
from decimal import Decimal

# Two letters, three letters or digits, two digits of the year and five of the recording: ISO 3901, without check digit.
_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")
# The letter T, nine digits and a check digit: ISO 15707.
_ISWC = re.compile(r"T([0-9]{9})([0-9])")
_BETWEEN = re.compile(r"[\s.:\-\u2010-\u2015\u2212]+")
_ENTRY = re.compile(r"(?P<name>.*?)[\s:=(]*(?P<number>[0-9]+(?:[.,][0-9]+)?)\s*%?\s*\)?")
_FIRST_NUMBER = re.compile(r"(?P<number>[0-9]+(?:[.,][0-9]+)?)\s*%\s*(?P<name>.+)")
_NEGATIVE = re.compile(r"(?:^|[\s:=(])[-\u2212][0-9]")
_MAX_ENTRY = 500
_SEPARATORS = ";\n|,"
# Three thirds of 33.33 % are meant as a whole.
_ROUNDING = Decimal("0.01")


def normal_isrc(text: str) -> str:
    """An ISRC in capitals and without hyphens, such as GBAAA2400042.

    Raises:
        ValueError: it is none; says why.
    """
    code = _bare(text, "ISRC")
    if not _ISRC.fullmatch(code):
        raise ValueError("an ISRC has a country's two letters, three letters or digits, and seven digits")
    return code


def normal_iswc(text: str) -> str:
    """An ISWC as it is printed, such as T-034.524.680-1.

    Raises:
        ValueError: it is none, or its check digit is wrong; says why.
    """
    code = _ISWC.fullmatch(_bare(text, "ISWC"))
    if not code:
        raise ValueError("an ISWC has the letter T and ten digits")
    digits, check = code.groups()
    expected = -(1 + sum(place * int(digit) for place, digit in enumerate(digits, start=1))) % 10
    if int(check) != expected:
        raise ValueError(f"its check digit is {check}, and {expected} would fit the other digits")
    return f"T-{digits[:3]}.{digits[3:6]}.{digits[6:]}-{check}"


def normal_splits(text: str) -> str:
    """Splits as a list of names and percentages, such as `A. Writer 50 %; B. Singer 50 %`.

    Entries are separated by semicolons, line breaks, bars or commas, whichever of these comes first in that list.

    Raises:
        ValueError: an entry has no name or no percentage, or they do not add up to 100; says why.
    """
    separator = next((one for one in _SEPARATORS if one in text), ";")
    entries = [_entry(entry.strip()) for entry in text.split(separator) if entry.strip()]
    total = sum((number for _, number in entries), Decimal(0))
    if abs(total - 100) > _ROUNDING * len(entries):
        raise ValueError(f"its percentages add up to {_plain(total)}, not to 100")
    return "; ".join(f"{name} {_plain(number)} %" for name, number in entries)


def _entry(text: str) -> tuple[str, Decimal]:
    if len(text) > _MAX_ENTRY:
        raise ValueError(f"{text[:60]!r}… has {len(text)} characters, more than {_MAX_ENTRY}")
    if _NEGATIVE.search(text):
        raise ValueError(f"{text[:60]!r} has a negative percentage")
    found = _ENTRY.fullmatch(text) or _FIRST_NUMBER.fullmatch(text)
    if not found or not found["name"].strip():
        raise ValueError(f"{text[:60]!r} is no name with a percentage; write NAME 50 %; NAME 50 %")
    return " ".join(found["name"].split()), Decimal(found["number"].replace(",", "."))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# Of an ISRC, without what stands between its parts.
_LONGEST = 12


def _bare(text: str, label: str) -> str:
    code = _BETWEEN.sub("", text.upper())
    # A code of Iceland (IS) may begin with the same letters.
    return code.removeprefix(label) if len(code) > _LONGEST else code
