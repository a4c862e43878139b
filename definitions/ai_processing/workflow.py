"""The definition: topics, then every document on its own, four at a time, then one answer from all of them."""

from __future__ import annotations

from definitions.ai_processing.activities import Question, assess, draft, extract, find_topics, summarise
from orchestrator import RetryPolicy, each, step, workflow

_TOPICS = "{{ steps.find_topics.output }}"

ai_processing = workflow(
    "ai-processing",
    step("find_topics", find_topics, {"question": "{{ input.question }}"}),
    each(
        "read_documents",
        "{{ input.documents }}",
        # A document that cannot be read gives null, and is left out of the draft.
        step(
            "extract",
            extract,
            {"title": "{{ item.title }}", "text": "{{ item.text }}", "about": _TOPICS},
            on_error="continue",
        ),
        step(
            "assess",
            assess,
            {"title": "{{ item.title }}", "passages": "{{ steps.extract.output }}", "about": _TOPICS},
        ),
        concurrency=4,
        max_iterations=1000,
    ),
    step("draft", draft, {"notes": "{{ steps.read_documents.output }}"}),
    step("summarise", summarise, {"question": "{{ input.question }}", "passages": "{{ steps.draft.output }}"}),
    input=Question,
    retry=RetryPolicy(max_attempts=5, backoff=0.5, max_delay=30.0),
)
