"""A language model that needs no network: it finds the words that matter and the sentences that have them.

Put calls to a real one in its place; activities.py is all that knows of it.
"""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"[a-z]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_COMMON = frozenset(
    _WORD.findall(
        "a an and are as at be by did do does for from had has have how in is it its of on or that the this to was "
        "were what when where which who why will with"
    )
)


def words(text: str) -> list[str]:
    """The words that say something, in their order."""
    return [word for word in _WORD.findall(text.lower()) if word not in _COMMON]


def topics(text: str, most: int) -> list[str]:
    """The words that stand out, the most frequent first."""
    return [word for word, _ in Counter(words(text)).most_common(most)]


def passages(text: str, about: list[str], most: int) -> list[str]:
    """The sentences that have most to do with some topics, in the order in which they stand."""
    sentences = [sentence for sentence in _SENTENCE.split(text.strip()) if sentence]
    ranked = sorted(sentences, key=lambda sentence: -relevance(sentence, about))[:most]
    return [sentence for sentence in sentences if sentence in ranked and relevance(sentence, about) > 0]


def relevance(text: str, about: list[str]) -> int:
    """How many of the topics a text has, plural or not."""
    found = {word.rstrip("s") for word in words(text)}
    return sum(topic.rstrip("s") in found for topic in about)
