"""Bytes to dataclasses and back, for each protocol; no IO."""
