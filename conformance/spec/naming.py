"""Names that a person types or reads: families as slugs, what was meant by an unknown name, numbers with a noun."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'WORD'?)`` for what is close to a known word in any case, else ""."""
    import difflib  # only a mistake needs it

    words = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), list(words), 1)
    return f" (did you mean {words[close[0]]!r}?)" if close else ""


def slug(family: str) -> str:
    """The name of a family as one word of a command line: ``life-cycle`` of "life cycle"."""
    return family.replace(" ", "-")


def family_named(word: str, known: Iterable[str]) -> str | None:
    """The family of this name or slug, in any case; None if there is none."""
    return next((one for one in known if slug(one) == slug(word.lower())), None)


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 failure" and "2 failures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
