"""Small applications that use the orchestrator. Run them from the top of the repository."""
