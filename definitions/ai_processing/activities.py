"""The model calls. Each is recorded by the ledger: a chain that is interrupted goes on behind the last answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from definitions.ai_processing import model
from orchestrator import BusinessError, activity


class Document(BaseModel):
    """A document to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1)
    text: str


class Question(BaseModel):
    """The workflow's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1, examples=["When do swifts leave?"])
    documents: tuple[Document, ...] = Field(min_length=1)


class Note(BaseModel):
    """What a document has to say."""

    model_config = ConfigDict(frozen=True)

    title: str
    passages: tuple[str, ...]
    relevance: int


class Unreadable(BusinessError):
    """The document has no text."""


@activity
def find_topics(question: str) -> list[str]:
    """What the question is about."""
    return model.topics(question, 8)


@activity
def extract(title: str, text: str, about: list[str]) -> list[str]:
    """The passages of a document that matter; Unreadable when there is nothing to read."""
    if not model.words(text):
        raise Unreadable(f"{title} has no text")
    return model.passages(text, about, 2)


@activity
def assess(title: str, passages: list[str] | None, about: list[str]) -> Note | None:
    """How far the passages answer the question; nothing for a document that could not be read."""
    if passages is None:
        return None
    return Note(title=title, passages=tuple(passages), relevance=model.relevance(" ".join(passages), about))


@activity
def draft(notes: list[Note | None]) -> list[str]:
    """The best passages of all documents, the most relevant document first. What could not be read is left out."""
    useful = sorted((note for note in notes if note and note.relevance), key=lambda note: -note.relevance)
    return [f"{passage} [{note.title}]" for note in useful for passage in note.passages]


@activity
def summarise(question: str, passages: list[str]) -> dict[str, object]:
    """The answer, with what it rests on."""
    return {"question": question, "answer": " ".join(passages[:3]), "passages": len(passages)}
