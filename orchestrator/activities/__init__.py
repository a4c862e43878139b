"""Activities: the registered functions that steps call."""
