"""Codes of recordings and works, splits, dates: each is read in the ways that people write it, and kept in one."""

import re
from datetime import date
from decimal import Decimal

# Two letters, three letters or digits, two digits of the year and five of the recording: ISO 3901, without check digit.
_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")
# The letter T, nine digits and a check digit: ISO 15707.
_ISWC = re.compile(r"T([0-9]{9})([0-9])")
_BETWEEN = re.compile(r"[\s.:\-\u2010-\u2015\u2212]+")
# `NAME 50 %`, `NAME: 50`, `NAME (50 %)` or `50 % NAME`. "Deadmau5" ends in no percentage.
_NUMBER = r"(?P<number>[0-9]+(?:[.,][0-9]+)?)"
_NUMBER_FIRST = re.compile(rf"{_NUMBER}\s*(?P<sign>%)\s*(?P<name>.+)")
_NUMBER_LAST = re.compile(
    rf"(?P<name>.+?)(?P<sign>\s*[:=]\s*|\s|(?=\())(?P<bracket>\()?\s*{_NUMBER}\s*(?P<percent>%?)(?(bracket)\s*\))"
)
_NEGATIVE = re.compile(r"(?:^|[\s:=(])[-\u2212][0-9]")
# Numbers that belong to a name ("Maroon 5") are followed by nothing that could end an entry. Others are percentages of
# entries that were not told apart.
_IN_NAME = re.compile(r"(?<![\w.,'’-])\d+(?:[.,]\d+)?(?!\w)")
_MORE_ENTRIES = re.compile(rf"[%\uff05;|]|[:=]\s*\d|{_IN_NAME.pattern}\s*(?:[^\w\s()'’.-]|[-\u2010-\u2015\u2212]\s)")
_MAX_ENTRY = 500
_LINE_BREAKS = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
_SEPARATORS = ";\n|"
# Three thirds of 33.33 % are meant as a whole.
_ROUNDING, _MOST_ROUNDING = Decimal("0.01"), Decimal("0.1")


def normal_isrc(text: str) -> str:
    """An ISRC in capitals and without hyphens, such as GBAAA2400042.

    Raises:
        ValueError: it is none; says why.
    """
    code = _bare(text, "ISRC")
    if not _ISRC.fullmatch(code):
        raise ValueError("an ISRC has a country's two letters, three letters or digits, and seven digits")
    return code


def normal_date(text: str) -> str:
    """A day as ISO 8601 writes it, such as 2024-03-31.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        return date.fromisoformat(text.strip()).isoformat()
    except ValueError as error:
        raise ValueError("a date is a year, a month and a day, such as 2024-03-31") from error


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

    Entries are separated by semicolons, line breaks, bars or commas, by one of these alone: whichever comes first in
    that list. The other ones, but for commas, are refused in a name, as are percent signs and numbers that could be
    another entry's percentage. An entry is `NAME 50 %`, `NAME: 50`, `NAME (50 %)` or `50 % NAME`; without a number in
    the name, `NAME 50` too.

    Raises:
        ValueError: an entry has no name, no percentage or more than one, or they do not add up to 100; says why.
    """
    return "; ".join(f"{name} {_plain(number)} %" for name, number in split_entries(text))


def split_entries(text: str) -> list[tuple[str, Decimal]]:
    """Names and percentages of splits, in their order, as `normal_splits` reads them.

    Raises:
        ValueError: an entry has no name, no percentage or more than one, or they do not add up to 100; says why.
    """
    entries = _entries(_LINE_BREAKS.sub("\n", text.strip()))
    total = sum((number for _, number in entries), Decimal(0))
    if abs(total - 100) > min(_ROUNDING * len(entries), _MOST_ROUNDING):
        raise ValueError(f"its percentages add up to {_plain(total)}, not to 100")
    return entries


def _entries(text: str) -> list[tuple[str, Decimal]]:
    separator = next((one for one in _SEPARATORS if one in text), None)
    if not separator:
        try:
            # A comma may belong to the only name.
            return [_entry(text)]
        except ValueError:
            separator = ","
    return [_entry(entry.strip()) for entry in text.split(separator) if entry.strip()]


def _entry(text: str) -> tuple[str, Decimal]:
    if len(text) > _MAX_ENTRY:
        raise ValueError(f"{text[:60]!r}… has {len(text)} characters, more than {_MAX_ENTRY}")
    if _NEGATIVE.search(text):
        raise ValueError(f"{text[:60]!r} has a negative percentage")
    found = _NUMBER_FIRST.fullmatch(text) or _NUMBER_LAST.fullmatch(text)
    name = " ".join(found["name"].split()) if found else ""
    if not found or not any(map(str.isalnum, name)):
        raise ValueError(f"{text[:60]!r} is no name with a percentage; write NAME 50 %; NAME 50 %")
    if "\n" in text or _MORE_ENTRIES.search(name):
        raise ValueError(f"{text[:60]!r} may be more than one entry; write NAME 50 %; NAME 50 %, with semicolons alone")
    signed = found["sign"].strip() or found.groupdict().get("percent")
    if not signed and _IN_NAME.search(name):
        raise ValueError(f"{text[:60]!r} has more than one number; write % after the percentage")
    return name, Decimal(found["number"].replace(",", "."))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# Of an ISRC, without what stands between its parts.
_LONGEST = 12


def _bare(text: str, label: str) -> str:
    code = _BETWEEN.sub("", text.upper())
    # A code of Iceland (IS) may begin with the same letters.
    return code.removeprefix(label) if len(code) > _LONGEST else code
