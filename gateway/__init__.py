"""The mesh over HTTP: REST, JSON and streams, derived from the contracts."""
