"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from typing import Any

from definitions.play import Play

WORKFLOW = "ai-processing"
SAMPLE: dict[str, Any] = {
    "question": "When do the swifts leave the city?",
    "documents": [
        {"title": "swifts", "text": "Swifts nest under roofs. They leave the city in August. They never land."},
        {"title": "storks", "text": "Storks stand on one leg. In August storks leave too."},
        {"title": "bread", "text": "Bread is baked at night."},
    ],
}


def check_answered(play: Play) -> None:
    """every document is read on its own, and the answer rests on the most relevant first"""
    handle = play.start(WORKFLOW, SAMPLE)
    output = play.output(handle)
    play.same(output["question"], SAMPLE["question"], "the question")
    play.true(output["answer"].startswith("Swifts nest under roofs. [swifts] They leave the city in August. [swifts]"),
              f"the answer begins with the swifts: {output['answer']}")  # fmt: skip
    play.true("Bread" not in output["answer"], "bread is left out")
    calls = [path for path in play.steps(handle) if path.startswith("read_documents[")]
    play.same(len(calls), 2 * len(SAMPLE["documents"]), "model calls in the loop")


def check_many_documents(play: Play) -> None:
    """forty documents are read four at a time, one of them without text, and none is lost"""
    documents = [{"title": f"d{n}", "text": f"Swifts leave city number {n}."} for n in range(40)]
    documents[7]["text"] = " - "
    output = play.output(play.start(WORKFLOW, SAMPLE | {"documents": documents}))
    play.same(output["passages"], 39, "passages")
    play.true(output["answer"].startswith("Swifts leave city number 0. [d0]"), "the order of the documents is kept")
