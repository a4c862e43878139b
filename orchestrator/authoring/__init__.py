"""The authoring forms of definitions, in Python, YAML and JSON, and what is checked of them before they are used."""
