"""`python -m runtime` is the command `pexdock`."""

from runtime.cli import main

if __name__ == "__main__":
    main(prog_name="pexdock")
