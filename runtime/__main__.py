"""`python -m runtime` is the command `pexdock`."""

from runtime.cli.main import main

if __name__ == "__main__":
    main(prog_name="pexdock")
