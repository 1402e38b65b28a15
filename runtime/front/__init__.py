"""The front door: HTTP on one side, channels to workers on the other. Imports no model code."""
