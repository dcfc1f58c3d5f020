"""The endpoint: gateway, fingerprinter and searcher on Ray Serve. No mathematics here."""

import cluster  # noqa: F401  sets what Ray reads when it is first imported
