"""Connectors: named, typed settings for outside services, with secrets that are never written down."""
