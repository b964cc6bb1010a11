"""The language of ``--where``: comparisons of a key with a value, joined by and, or, not and parentheses.

Examples: ``model=vicreg and static_noise>1``, ``seed in (0, 1) or not (verdict = "tracks")``, ``temperature = null``.
The text is never executed as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jepa.results.records import Names, ResultsError, Run, parse_scalar
from jepa.store.result import is_number

Predicate = Callable[[Run], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator>==|!=|<=|>=|=|<|>)
      | (?P<mark>[(),\[\]])
      | (?P<quoted>"[^"]*"|'[^']*')
      | (?P<word>[^\s()\[\],=!<>"']+)
    )""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "in"})


class _Token(NamedTuple):
    kind: str  # operator, mark, quoted, word, keyword, end
    text: str
    start: int


class _Literal(NamedTuple):
    value: Any  # the number, truth value or null that the text spells, or the text
    text: str  # the text as written, to compare with texts such as the hash 0123456789


class Condition(NamedTuple):
    """A compiled condition. Its (key, text) pairs of equalities serve for a hint when no run matches."""

    holds: Predicate
    equalities: tuple[tuple[str, str], ...]


def compile_condition(text: str, names: Names) -> Condition:
    """Compile the condition ``text``. ``names`` resolves its keys.

    Raises:
        ResultsError: no run has a key, a short key is ambiguous, or the syntax is wrong.
    """
    parser = _Parser(text, names)
    predicate = parser.alternatives()
    parser.expect_end()
    return Condition(predicate, tuple(parser.equalities))


class _Parser:
    def __init__(self, text: str, names: Names) -> None:
        self.text = text
        self.names = names
        self.tokens = list(_tokens(text))
        self.position = 0
        self.equalities: list[tuple[str, str]] = []

    def alternatives(self) -> Predicate:
        return self._joined("or", any, lambda: self._joined("and", all, self._negation))

    def _joined(self, word: str, combine: Callable[[Iterable[bool]], bool], part: Callable[[], Predicate]) -> Predicate:
        """Parse one or more parts that are joined by ``word``."""
        parts = [part()]
        while self._take("keyword", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else lambda run: combine(one(run) for one in parts)

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._error("'and', 'or' or the end")

    def _negation(self) -> Predicate:
        if self._take("keyword", "not"):
            inner = self._negation()
            return lambda run: not inner(run)
        if self._take("mark", "("):
            inner = self.alternatives()
            self._require("mark", ")")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        if self._next.kind not in ("word", "quoted"):
            raise self._error("a key")
        token = self._advance()
        key = self.names.resolve(_unquoted(token))
        negated = self._take("keyword", "not")
        if negated:
            self._require("keyword", "in")
        if negated or self._take("keyword", "in"):
            members = self._list()
            return lambda run: negated != any(_equal(run.value(key), member) for member in members)
        if self._next.kind != "operator":
            raise self._error("one of = != < <= > >= in")
        operator = self._advance().text
        return self._compare(key, operator, self._literal())

    def _compare(self, key: str, operator: str, literal: _Literal) -> Predicate:
        wanted = literal.value
        if operator in ("=", "=="):
            self.equalities.append((key, literal.text))
            return lambda run: _equal(run.value(key), literal)
        if operator == "!=":
            return lambda run: not _equal(run.value(key), literal)
        if not isinstance(wanted, str) and not is_number(wanted):
            raise ResultsError(f"--where: {key} {operator} {literal.text}: only numbers and words have an order")
        return lambda run: _ordered(key, run.value(key), operator, wanted)

    def _list(self) -> list[_Literal]:
        closing = {"(": ")", "[": "]"}.get(self._next.text if self._next.kind == "mark" else "")
        if closing is None:
            raise self._error("a list like (1, 2)")
        self._advance()
        members = [self._literal()]
        while self._take("mark", ","):
            members.append(self._literal())
        self._require("mark", closing)
        return members

    def _literal(self) -> _Literal:
        if self._next.kind not in ("word", "quoted"):
            raise self._error("a value")
        token = self._advance()
        text = _unquoted(token)
        return _Literal(text if token.kind == "quoted" else parse_scalar(text), text)

    @property
    def _next(self) -> _Token:
        return self.tokens[self.position]

    def _advance(self) -> _Token:
        self.position += 1
        return self.tokens[self.position - 1]

    def _take(self, kind: str, text: str) -> bool:
        if (self._next.kind, self._next.text) != (kind, text):
            return False
        self.position += 1
        return True

    def _require(self, kind: str, text: str) -> None:
        if not self._take(kind, text):
            raise self._error(repr(text))

    def _error(self, wanted: str) -> ResultsError:
        token = self._next
        found = "it ends" if token.kind == "end" else f"found {token.text!r}"
        return ResultsError(f"--where {self.text!r}: expected {wanted} at character {token.start + 1}, {found}")


def _tokens(text: str) -> list[_Token]:
    found = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            rest = text[position:].strip()
            raise ResultsError(f"--where {text!r}: cannot read {rest!r}")
        word = match.group(match.lastgroup)
        kind = "keyword" if match.lastgroup == "word" and word.lower() in _KEYWORDS else match.lastgroup
        found.append(_Token(kind, word.lower() if kind == "keyword" else word, match.start(match.lastgroup)))
        position = match.end()
    return [*found, _Token("end", "", len(text))]


def _unquoted(token: _Token) -> str:
    return token.text[1:-1] if token.kind == "quoted" else token.text


def _equal(value: Any, literal: _Literal) -> bool:
    if isinstance(value, str):
        return value == literal.text
    if isinstance(value, bool) or isinstance(literal.value, bool) or value is None or literal.value is None:
        return value is literal.value
    return bool(value == literal.value)


def _ordered(key: str, value: Any, operator: str, wanted: Any) -> bool:
    """Whether ``value operator wanted`` holds. False for a missing value."""
    if value is None:
        return False
    if is_number(value) != is_number(wanted):
        raise ResultsError(f"--where: {key} is {value!r}, which has no order with {wanted!r}")
    left, right = (value, wanted) if is_number(value) else (str(value), str(wanted))
    results = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}
    return results[operator]
