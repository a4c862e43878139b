"""A chain of model calls that answers a question from documents, with a parallel loop over them in the middle."""

from definitions.ai_processing.workflow import ai_processing

__all__ = ["ai_processing"]
