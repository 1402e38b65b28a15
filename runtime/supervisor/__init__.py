"""The supervisor: watches dist/, starts, watches and ends the front door and the workers, and never sees a row."""
